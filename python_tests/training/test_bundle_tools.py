# SPDX-License-Identifier: MIT
"""The tools that turn a run into a bundled model."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from helpers.small_models import save_small_model, small_config, small_model
from helpers.tiny_training import TINY

from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.models import ErrorHead, ErrorHeadConfig, load
from poseren_ext.training import Trainer, make_config
from poseren_ext.training.checkpoint import read_checkpoint
from tools.bundle_model import finish as finishing
from tools.bundle_model import measure as measuring
from tools.bundle_model.widen import widened


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


def test_a_widened_model_gives_the_same_poses_and_learns_with_all_its_units() -> None:
    model, beside = (small_model("msra21", spread=0.5, seed=seed) for seed in (1, 2))
    widths = tuple(2 * width + 3 for width in model.head.config.widths)
    wide = widened(model, beside, widths)
    crop = torch.rand(4, 1, 96, 96) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(wide(crop), model(crop), atol=1e-5)
    first, second = model.head.config.widths
    assert torch.equal(wide.head.region_weight[:, first : 2 * first], beside.head.region_weight)
    wide.train()(crop)[-1].square().sum().backward()
    assert wide.head.pose_weight.grad is not None
    assert bool((wide.head.pose_weight.grad.view(-1, 5, widths[1])[:, :, second:] != 0).any(0).any(1).all())


def test_models_that_cannot_stand_beside_each_other_are_refused() -> None:
    model = small_model("msra21")
    with pytest.raises(ValueError, match="at least twice those of the model"):
        widened(model, model, (3, 3))
    with pytest.raises(ValueError, match="different layers"):
        widened(model, small_model("nyu14"), (64, 64))
    config = small_config("msra21")
    model.error = ErrorHead(ErrorHeadConfig(), model.skeleton, config.channels[-1], config.image_size)
    assert widened(model, model, tuple(2 * width for width in config.refine.widths)).error is None


def test_a_frame_with_a_hand_out_of_range_counts_as_the_mean_pose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_small_model(tmp_path / "model.safetensors")
    far = SimpleNamespace(center=(320.0, 240.0, 3143.0))
    monkeypatch.setattr(measuring, "find_hands", lambda depth, camera, hands: [far])
    (result,) = measuring.measure(str(path), ["palm"], frames=2)
    assert result.paired_mm == pytest.approx(result.mean_pose_mm, rel=1e-5)


def test_a_hand_that_is_hidden_entirely_counts_as_the_mean_pose(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = save_small_model(tmp_path / "model.safetensors")

    def away(hands: object, count: int, folder: object) -> Iterator[FrameBatch]:
        (part,) = test_parts(hands, count, folder)
        yield replace(part, center=torch.cat([part.center[:, :2], torch.full((count, 1), 150.0)], 1))

    test_parts = measuring.test_parts
    monkeypatch.setattr(measuring, "test_parts", away)
    (result,) = measuring.measure(str(path), ["palm"], frames=2)
    assert result.stage_mm == pytest.approx([result.mean_pose_mm] * len(result.stage_mm), rel=1e-5)
