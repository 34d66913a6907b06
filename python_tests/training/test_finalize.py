# SPDX-License-Identifier: MIT
"""The end of a training: rounded weights, corrected biases."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers.small_models import small_model
from torch import Tensor

from poseren_ext import ops
from poseren_ext.models import PoseREN, RegionEnsemble, load
from poseren_ext.training import TrainConfig, Trainer, read_config
from poseren_ext.training import finalize as finalizing
from poseren_ext.training.synthetic_batches import SyntheticStream
from poseren_ext.training.validation import stage_poses

SMALL = TrainConfig(channels=(4, 4, 8), init_widths=(8, 8), refine_widths=(8, 8), batch=32, chunk=64, reuse=2)
FRAMES = 64


@pytest.fixture(autouse=True)
def few_frames(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(finalizing, "FRAMES", FRAMES)


def mean_errors(model: PoseREN, config: TrainConfig) -> Tensor:
    """Of the frames behind the training's, not moved: [T+1, J, 3], normalised."""
    still = dataclasses.replace(
        config, rotation=0.0, translation=0.0, refine_translation=0.0, scale=0.0, depth_shift=0.0, chunk=FRAMES, reuse=1
    )
    stream, first = SyntheticStream(still, "refine"), config.init_steps + config.refine_steps
    batches = [stream.batch(first + step) for step in range(FRAMES // config.batch)]
    crop, pose = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("crop", "pose"))
    initial = model.mean_pose.expand(len(crop), -1, -1) if config.initial == "mean" else None
    return (pose - stage_poses(model, crop, initial, stages=config.stages)).mean(1)


def is_rounded(head: RegionEnsemble) -> bool:
    packed = ops.pack_head(head, "int8")
    return all(
        torch.equal(
            getattr(packed, f"{layer}_weight") * getattr(packed, f"{layer}_scale")[..., None],
            getattr(head, f"{layer}_weight").detach(),
        )
        for layer in ("region", "finger", "pose")
    )


def test_no_joint_is_off_by_a_constant_and_packing_changes_nothing() -> None:
    model = small_model("msra21", step=0.002, spread=0.5)
    assert not is_rounded(model.head)
    before = mean_errors(model, SMALL)
    finalizing.finalize(model, SMALL)
    after = mean_errors(model, SMALL)
    assert float(before[0].abs().mean()) > 0.1
    assert float(after[0].abs().max()) < 1e-5
    assert float(after[-1].abs().mean()) < 0.1 * float(before[-1].abs().mean())  # other poses, other windows
    assert is_rounded(model.head)
    assert is_rounded(model.init.head)


def test_from_the_mean_pose_init_cnn_keeps_its_bias() -> None:
    model, config = small_model("msra21", step=0.002, spread=0.5), dataclasses.replace(SMALL, initial="mean")
    bias = model.init.head.pose_bias.detach().clone()
    finalizing.finalize(model, config)
    assert torch.equal(model.init.head.pose_bias, bias)
    assert float(mean_errors(model, config)[-1].abs().mean()) < 0.02


def test_a_training_ends_with_it(tmp_path: Path) -> None:
    config = dataclasses.replace(SMALL, init_steps=2, refine_steps=2, validate_every=0, finish=True)
    Trainer(config, tmp_path).run()
    model = load(tmp_path / "model.safetensors")
    assert is_rounded(model.head)
    assert float(mean_errors(model, config)[0].abs().max()) < 2e-3  # biases stored as float16


def test_a_pose_file_to_start_from_is_refused() -> None:
    with pytest.raises(ValueError, match=r"finish is true and initial is .poses\.txt.; expected 'init' or 'mean'"):
        read_config(overrides=["finish=true", "initial=poses.txt"])
