# SPDX-License-Identifier: MIT
"""How far off a model is, in millimetres, on subjects that training never saw."""

from __future__ import annotations

import torch

from poseren_ext.camera import uvd_to_xyz
from poseren_ext.data.synthetic import SyntheticHands
from poseren_ext.models import PoseREN
from poseren_ext.training.stream import Frames, render_frames

VALIDATION_SEED = 90_001
_BATCH = 128


def stage_errors(model: PoseREN, hands: SyntheticHands, frames: Frames, *, stages: int = 3) -> torch.Tensor:
    """Joint errors of the initial pose and of every stage: float64 [T+1, N, J], mm."""
    model.eval()
    errors = []
    for start in range(0, len(frames.tile), _BATCH):
        part = slice(start, start + _BATCH)
        with torch.no_grad():
            crop = frames.tile[part].float().clamp(-1.0, 1.0).contiguous(memory_format=torch.channels_last)
            pose = model(crop, stages=stages)
        xyz = _to_xyz(pose.double(), frames.center[part].double(), hands)
        errors.append((xyz - frames.xyz[part].double()).norm(dim=-1))
    return torch.cat(errors, 1)


def _to_xyz(pose: torch.Tensor, center: torch.Tensor, hands: SyntheticHands) -> torch.Tensor:
    """Normalised poses [T, B, J, 3] to camera mm."""
    camera = hands.camera
    z = center[:, None, 2:]
    focal = pose.new_tensor([camera.fx, camera.fy])
    uv = pose[..., :2] * hands.cube * focal / z + center[:, None, :2]
    return uvd_to_xyz(torch.cat([uv, pose[..., 2:] * hands.cube + z], -1), camera, check=False)


class Validation:
    """The same unseen subjects' frames at every call: mean joint error, mm, of the initial pose and of each stage."""

    def __init__(self, cube: float, frames: int) -> None:
        self.hands = SyntheticHands(VALIDATION_SEED, "validation", cube=cube)
        self.frames = render_frames(self.hands, 0, frames)

    def __call__(self, model: PoseREN, *, stages: int) -> list[float]:
        """[T+1] errors."""
        errors = stage_errors(model, self.hands, self.frames, stages=stages)
        return [float(error) for error in errors.mean((1, 2))]
