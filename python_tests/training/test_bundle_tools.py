# SPDX-License-Identifier: MIT
"""The tools that turn a run into a bundled model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.tiny_training import TINY

from poseren_ext.models import load
from poseren_ext.training import Trainer, make_config
from poseren_ext.training.checkpoint import read_checkpoint
from tools.bundle_model import finish as finishing


def test_a_model_is_the_mean_of_its_checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finishing, "finalize", lambda model, config: None)  # rounding has tests of its own
    Trainer(make_config({**TINY, "weight_dtype": "float32"}), tmp_path / "run").run()
    paths = [tmp_path / "run" / name for name in ("checkpoint.safetensors", "checkpoint.safetensors.previous")]
    finishing.finish(tmp_path / "finished", paths)
    steps = [int(read_checkpoint(path).state["step"]) for path in paths]
    name = "head.pose_weight"
    mean = torch.stack([read_checkpoint(path).tensors[f"model.{name}"] for path in paths]).mean(0)
    assert torch.allclose(load(tmp_path / "finished" / "model.safetensors").state_dict()[name], mean, atol=1e-6)
    assert f"refine_steps = {max(steps)}" in (tmp_path / "finished" / "config.toml").read_text()


def test_checkpoints_of_different_runs_are_refused(tmp_path: Path) -> None:
    short = {**TINY, "init_steps": 1, "refine_steps": 1, "validate_every": 0}
    for name, seed in (("a", 1), ("b", 2)):
        Trainer(make_config({**short, "seed": seed}), tmp_path / name).run()
    with pytest.raises(ValueError, match="different configurations"):
        finishing.finish(tmp_path / "c", [tmp_path / name / "checkpoint.safetensors" for name in "ab"])
