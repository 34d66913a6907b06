# SPDX-License-Identifier: MIT
"""Poses of the stages of a cascade; how many windows move between them decides how much work a stage can skip."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from poseren_ext import ops
from poseren_ext.geometry.camera import CAMERAS
from poseren_ext.io.pose_files import read_poses
from poseren_ext.models import HeadConfig
from poseren_ext.reference import moved_windows

FRACTIONS = (0.0, 0.8, 0.95, 1.0)
"""Fraction of the way from the initial to the final pose after each stage."""
_SPREAD, _MOTION, _SHARED = 0.38, 0.027, 0.021
"""Without published files: standard deviations of the joint positions, of the motion of single joints and of the whole
hand, in half edges of the cube. They reproduce the mean motion (8.2 mm) and the share of moved windows of NYU."""


@dataclass(frozen=True)
class Trajectories:
    """initial, final: normalised poses [N, J, 3]; source: where they come from."""

    initial: Tensor
    final: Tensor
    source: str

    def __getitem__(self, chosen: slice) -> Trajectories:
        return Trajectories(self.initial[chosen], self.final[chosen], self.source)

    def targets(self, config: HeadConfig) -> Tensor:
        """Poses of all stages and of one more [T+2, N, J, 3] that a cascade with this head can produce.

        A stage sees the previous pose only through its windows: once no window moves, the pose no longer changes.
        """
        poses = [self.initial]
        arrived = torch.zeros(len(self.initial), dtype=torch.bool)
        for fraction in (*FRACTIONS[1:], FRACTIONS[-1]):
            pose = self.initial + fraction * (self.final - self.initial)
            pose = torch.where(arrived[:, None, None], poses[-1], pose)
            arrived = arrived | (windows(pose, config) == windows(poses[-1], config)).flatten(1).all(1)
            poses.append(pose)
        return torch.stack(poses)


def windows(pose: Tensor, config: HeadConfig) -> Tensor:
    """Windows int32 [B, M, 4] of a head's guided joints in poses [B, J, 3]."""
    return ops.roi_windows(pose, config.joints, image_size=config.image_size, roi_size=config.roi_size)


def moved_shares(poses: Tensor, config: HeadConfig) -> list[float]:
    """Share of windows that each stage has to compute for poses [T+1, B, J, 3]: all of them in the first stage."""
    shares: list[float] = moved_windows(poses, config).float().mean((1, 2)).tolist()
    return shares


def load_trajectories(count: int) -> Trajectories:
    """Published poses of Init-CNN and of Pose-REN for `count` frames spread over the NYU test set.

    Without the published files (in the folder that POSEREN_TEST_DATA names), random poses with the same motion.
    """
    folder = os.environ.get("POSEREN_TEST_DATA")
    if not folder:
        return _drawn(count)
    nyu = Path(folder) / "nyu"
    center = torch.from_numpy(read_poses(nyu / "test_centers_uvd.txt", joints=1)).float()[:, 0]
    poses = []
    for name in ("Init-CNN", "Pose-REN"):
        uvd = torch.from_numpy(read_poses(nyu / "predictions" / f"{name}.txt", frames=len(center))).float()
        poses.append(ops.normalize_pose(uvd, center, CAMERAS["nyu"]))
    chosen = torch.linspace(0, len(center) - 1, count).round().long()
    return Trajectories(poses[0][chosen], poses[1][chosen], "NYU test set: published Init-CNN to published Pose-REN")


def _drawn(count: int) -> Trajectories:
    generator = torch.Generator().manual_seed(5)
    joints = 14
    initial = (_SPREAD * torch.randn(count, joints, 3, generator=generator)).clamp(-0.9, 0.9)
    own = _MOTION * torch.randn(count, joints, 3, generator=generator)
    shared = _SHARED * torch.randn(count, 1, 3, generator=generator)
    return Trajectories(initial, initial + own + shared, "random, with the mean motion of NYU's published poses")
