# SPDX-License-Identifier: MIT
"""What a model does on whole frames of synthetic hands that training never saw: the figures of its card."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from poseren_ext.geometry.camera import uvd_to_xyz
from poseren_ext.inference.estimator import Estimator
from poseren_ext.models import PoseREN
from poseren_ext.ops import denormalize_pose, normalize_pose, roi_windows
from poseren_ext.synthetic import Frames, SyntheticHands
from poseren_ext.synthetic.export import stored_depth
from poseren_ext.training.synthetic_batches import render_store
from poseren_ext.training.validation import label_store, stage_errors, stage_poses

TEST_SEED = 20_270
TEST_FRAMES = 4096
FEWER = 1024
"""Of the frames, for what is measured beside the card's main figures."""
TURNS = (2, 4)
STAGES = 3
_BATCH = 32


@dataclass(frozen=True)
class Measurement:
    """A model on synthetic frames of subjects, and of a seed, that training never saw.

    Attributes:
        seed, frames: which frames.
        stage_mm: mean joint error of the initial pose and of each stage.
        mean_pose_mm: that of the mean pose, for comparison.
        joint_mm: last stage, each joint.
        moved: share of the windows that moved at each stage.
        turned_mm: of the last stage, when a hand is looked at so often (`Estimator(turns=...)`) and the mean is taken;
            of the first frames.
        window_mm: of the last stage on windows that are rendered in the crop's own resolution, as training sees them,
            where a faulty pixel is one of the crop's; of the first frames.
    """

    seed: int
    frames: int
    stage_mm: tuple[float, ...]
    mean_pose_mm: float
    joint_mm: tuple[float, ...]
    moved: tuple[float, ...]
    turned_mm: dict[int, float]
    window_mm: float


def measure(model: PoseREN, *, seed: int = TEST_SEED, frames: int = TEST_FRAMES) -> Measurement:
    """Measures on the test split: what `poseren render`, `predict --centers` and `eval` give, without the files."""
    hands = SyntheticHands(seed, "test", 1.0, model.skeleton.name, cube=model.config.cube)
    errors, means, moved = [], [], []
    for part, estimator in _estimated(hands, model, frames):
        stages = torch.as_tensor(
            estimator(stored_depth(part), center=part.center, return_stages=True).stages
        )  # [T+1, B, J, 3]
        errors.append(_errors(stages, part, hands))
        mean = model.mean_pose.expand(len(part.center), -1, -1)
        means.append(_errors(denormalize_pose(mean, part.center, hands.camera, cube=hands.cube)[None], part, hands))
        moved.append(_moved(stages[:-1], part, hands, model))
    error = torch.cat(errors, 1)
    return Measurement(
        seed,
        frames,
        tuple(error.mean((1, 2)).tolist()),
        float(torch.cat(means, 1).mean()),
        tuple(error[-1].mean(0).tolist()),
        tuple(torch.cat(moved, 1).float().mean((1, 2)).tolist()),
        {turns: _turned(hands, model, min(frames, FEWER), turns) for turns in TURNS},
        _windows(hands, model, min(frames, FEWER)),
    )


def _estimated(hands: SyntheticHands, model: PoseREN, count: int, turns: int = 1) -> Iterator[tuple[Frames, Estimator]]:
    """Frames a batch at a time, with what estimates them."""
    estimator = Estimator(
        model, camera=hands.camera, hand=model.config.hand, cube=hands.cube, stages=STAGES, turns=turns
    )
    for first in range(0, count, _BATCH):
        yield hands.frames(torch.arange(first, min(first + _BATCH, count))), estimator


def _errors(uvd: Tensor, frames: Frames, hands: SyntheticHands) -> Tensor:
    """Joint errors of uvd [S, B, J, 3]: float64 [S, B, J], mm."""
    xyz = uvd_to_xyz(uvd.double(), hands.camera, check=False)
    distance: Tensor = (xyz - frames.xyz.double()).norm(dim=-1)
    return distance


def _moved(stages: Tensor, frames: Frames, hands: SyntheticHands, model: PoseREN) -> Tensor:
    """Which windows moved before each stage but the first: bool [T-1, B, M]."""
    poses = [normalize_pose(stage, frames.center, hands.camera, cube=hands.cube) for stage in stages]
    windows = [roi_windows(pose, model.head.config.joints) for pose in poses]
    return torch.stack([(a != b).any(-1) for a, b in pairwise(windows)])


def _turned(hands: SyntheticHands, model: PoseREN, count: int, turns: int) -> float:
    errors = [
        _errors(torch.as_tensor(estimator(stored_depth(part), center=part.center).uvd)[None], part, hands)
        for part, estimator in _estimated(hands, model, count, turns)
    ]
    return float(torch.cat(errors, 1).mean())


def _windows(hands: SyntheticHands, model: PoseREN, count: int) -> float:
    labels = label_store(render_store(hands, 0, count), hands.cube)
    return float(stage_errors(stage_poses(model, labels.crop, stages=STAGES)[-1:], labels, hands.cube).mean())
