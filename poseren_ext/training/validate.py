# SPDX-License-Identifier: MIT
"""How far off a model is, in millimetres, on subjects that training never saw."""

from __future__ import annotations

import torch

from poseren_ext.camera import uvd_to_xyz
from poseren_ext.data.synthetic import SyntheticHands
from poseren_ext.models import PoseREN
from poseren_ext.ops import denormalize_pose
from poseren_ext.training.stream import Store, render_store

VALIDATION_SEED = 90_001
_BATCH = 128


@torch.no_grad()
def stage_errors(model: PoseREN, frames: Store, *, stages: int = 3) -> torch.Tensor:
    """Joint errors of the initial pose and of every stage: float64 [T+1, N, J], mm."""
    model.eval()
    cube = model.config.cube
    errors = []
    for start in range(0, len(frames), _BATCH):
        part = frames[start : start + _BATCH]
        poses = model(part.batch(cube).crop.contiguous(memory_format=torch.channels_last), stages=stages)
        uvd = [denormalize_pose(pose, part.center, part.camera, cube=cube) for pose in poses]
        xyz = torch.stack([uvd_to_xyz(stage.double(), part.camera.double(), check=False) for stage in uvd])
        errors.append((xyz - part.xyz.double()).norm(dim=-1))
    return torch.cat(errors, 1)


class Validation:
    """The same unseen subjects' frames at every call: mean joint error, mm, of the initial pose and of each stage."""

    def __init__(self, skeleton: str, cube: float, frames: int) -> None:
        self.frames = render_store(SyntheticHands(VALIDATION_SEED, "validation", 1.0, skeleton, cube=cube), 0, frames)

    def __call__(self, model: PoseREN, *, stages: int) -> list[float]:
        """[T+1] errors."""
        return [float(error) for error in stage_errors(model, self.frames, stages=stages).mean((1, 2))]
