# SPDX-License-Identifier: MIT
"""`python -m tools.bundle_model.finish RUN CHECKPOINT ...`: a model from checkpoints of a run in progress.

Averaging the weights of several checkpoints at a constant learning rate has about the effect of a decay to zero.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from poseren_ext._utils.atomic_files import write_atomic
from poseren_ext.models import PoseREN, save
from poseren_ext.training.checkpoint import read_checkpoint
from poseren_ext.training.config import make_config
from poseren_ext.training.finalize import finalize

_WEIGHTS = "model."


def finish(folder: Path, checkpoints: Sequence[Path]) -> PoseREN:
    """Writes model.safetensors and config.toml as a finished run has them; the model is finalized.

    Args:
        folder: where to; made if need be.
        checkpoints: of one run; their weights are averaged.

    Raises:
        FileNotFoundError: a checkpoint is not there.
        ValueError: checkpoints of different configurations.
    """
    read = [read_checkpoint(path) for path in checkpoints]
    kinds = [{**json.loads(one.state["config"]), "refine_steps": 0, "decay": 0.0} for one in read]
    if any(kind != kinds[0] for kind in kinds):
        raise ValueError("the checkpoints are of runs with different configurations; give those of one run")
    last = max(read, key=lambda one: int(one.state["step"]))
    config = make_config({**json.loads(last.state["config"]), "refine_steps": int(last.state["step"])})
    model = PoseREN.build(config.model())
    names = [name for name in last.tensors if name.startswith(_WEIGHTS)]
    mean = {name[len(_WEIGHTS) :]: torch.stack([one.tensors[name] for one in read]).mean(0) for name in names}
    model.load_state_dict(mean)
    model = model.to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    finalize(model, config)
    folder.mkdir(parents=True, exist_ok=True)
    save(model, folder / "model.safetensors")
    write_atomic(folder / "config.toml", config.to_toml())
    return model


def main() -> None:
    """Finishes a run."""
    parser = argparse.ArgumentParser(prog="python -m tools.bundle_model.finish", description=__doc__)
    parser.add_argument("run", type=Path, help="the folder to write")
    parser.add_argument("checkpoints", type=Path, nargs="+")
    given = parser.parse_args()
    finish(given.run, given.checkpoints)


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    main()
