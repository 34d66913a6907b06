# SPDX-License-Identifier: MIT
"""The recipes "paper" and "released" learn at full width, as fast as the authors' training logs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from helpers.upright_hands import FrontalHands, training_frames, unseen_crops

from poseren_ext.geometry.camera import xyz_to_uvd
from poseren_ext.ops import normalize_pose
from poseren_ext.training import Trainer, make_config
from poseren_ext.training.streams import SyntheticFrames
from poseren_ext.training.validation import LabelledCrops, stage_errors, stage_poses

CUBE = 150.0


@pytest.fixture(scope="module")
def hands() -> Iterator[tuple[SyntheticFrames, LabelledCrops]]:
    """Upright hands with NYU's joints: 256 to train on, and 96 of other subjects."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield training_frames(256, FrontalHands), unseen_crops(96, FrontalHands)
    torch.set_num_threads(before)


def error_and_loss(poses: torch.Tensor, unseen: LabelledCrops) -> tuple[float, float]:
    """Mean joint error of normalised poses, mm, and their loss in the units of the authors' logs (sigma 10)."""
    uvd = xyz_to_uvd(unseen.xyz.double(), unseen.camera.double())
    distance = (poses - normalize_pose(uvd.float(), unseen.center, unseen.camera, cube=CUBE)).abs()
    loss = torch.where(distance < 0.01, 50 * distance**2, distance - 0.005).sum() / len(distance)
    return float(stage_errors(poses[None], unseen, CUBE).mean()), float(loss)


@pytest.mark.parametrize(("recipe", "steps", "below"), [("released", 150, 39.0), ("paper", 400, 38.0)])
def test_init_cnn_at_full_width_learns_upright_hands(
    recipe: str,
    steps: int,
    below: float,
    hands: tuple[SyntheticFrames, LabelledCrops],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Measured: untrained 82.0 mm, mean pose 41.0 mm; `released` 36.3 mm (150 steps), `paper` 36.8 mm (400 steps).

    With a loss that is averaged over the coordinates, which is 42 times smaller, the error stays near 80 mm. Training
    stops at the first multiple of 50 steps at which the error is low enough: 100 and 350 steps.
    """
    frames, unseen = hands
    monkeypatch.setattr("poseren_ext.training.trainer.open_set", lambda config, device, **_: frames)
    fields = {"recipe": recipe, "skeleton": "nyu14", "frames": len(frames), "batch": 16, "rotation": 15.0}
    trainer = Trainer(make_config({**fields, "validate_every": 0}), tmp_path)
    mean_pose = trainer.model.mean_pose.expand(len(unseen.crop), -1, -1)
    assert error_and_loss(mean_pose, unseen)[0] > below
    error, loss = error_and_loss(stage_poses(trainer.model, unseen.crop, stages=0)[0], unseen)
    assert error > 75.0
    assert 9.0 < loss < 12.0  # the authors' log for NYU begins at 10.76
    while error >= below and trainer.step < steps:
        trainer.advance(50)
        error, loss = error_and_loss(stage_poses(trainer.model, unseen.crop, stages=0)[0], unseen)
    assert error < below
    assert loss < 5.5  # the authors' log is at 5.49 after 400 iterations
