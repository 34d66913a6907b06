# SPDX-License-Identifier: MIT
"""The files of a training run in its folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

from poseren_ext._utils.atomic_files import atomic_path, write_atomic
from poseren_ext.training.checkpoint import Checkpoint, existing_checkpoints
from poseren_ext.training.config import TrainConfig, read_config
from poseren_ext.training.loggers import TENSORBOARD

CHECKPOINT, CONFIG, MODEL, PHASES = "checkpoint.safetensors", "config.toml", "model.safetensors", "phases.json"
FILES = (CONFIG, PHASES, "log.csv", CHECKPOINT, MODEL)

_MAY_CHANGE = (
    *("init_steps", "refine_steps", "init_epochs", "refine_epochs", "log_every", "validate_every", "checkpoint_every"),
    *("tensorboard", "wandb", "graph", "compile", "finish", "decay", "weight_dtype"),
)
"""Fields that a resumed run may change."""


def require_no_files(folder: Path) -> None:
    """Refuses a folder with files that a new run would overwrite.

    Raises:
        FileExistsError: The folder contains a run, or a file with the name of a file of a run.
    """
    if existing_checkpoints(folder / CHECKPOINT):
        raise FileExistsError(
            f"{folder} holds a training already; resume=True continues it, overwrite=True replaces it, or train in "
            "another folder"
        )
    found = [name for name in (*FILES, TENSORBOARD) if (folder / name).exists()]
    if found:
        raise FileExistsError(
            f"{folder} holds {', '.join(found)}, which the training would overwrite; overwrite=True replaces it, or "
            "train in another folder"
        )


def require_same_run(path: Path, checkpoint: Checkpoint, config: TrainConfig, phases: Sequence[str]) -> None:
    """Refuses a checkpoint of another run.

    Args:
        path: its file, named in errors.
        checkpoint: the checkpoint.
        config: the configuration to resume with.
        phases: names of the phases of that configuration.

    Raises:
        ValueError: The checkpoint has another configuration, or is in another phase.
    """
    now = json.loads(config.to_json())
    before = json.loads(TrainConfig().to_json()) | json.loads(checkpoint.state["config"])  # older ones lack fields
    changed = [name for name in now if now[name] != before[name] and name not in _MAY_CHANGE]
    if changed:
        raise ValueError(
            f"{path} was written with another {', '.join(changed)}; resume with the configuration in config.toml, or "
            "train in another folder"
        )
    if checkpoint.state["phase"] not in phases:
        raise ValueError(f"{path} is in phase {checkpoint.state['phase']}; expected one of {list(phases)}")


def remove_run(folder: Path) -> None:
    """Deletes the files of a run, and only those."""
    for name in FILES:
        for path in (folder / name, folder / f"{name}.previous"):
            path.unlink(missing_ok=True)
    if (folder / TENSORBOARD).is_dir():
        shutil.rmtree(folder / TENSORBOARD)


def write_config(path: Path, config: TrainConfig) -> None:
    """Writes all fields, unless the file is identical; a different file is kept as config.toml.previous."""
    if not path.exists():
        write_atomic(path, config.to_toml())
    elif read_config(path) != config:
        with atomic_path(path, keep=path.with_name(path.name + ".previous")) as draft:
            draft.write_text(config.to_toml(), encoding="utf-8")
