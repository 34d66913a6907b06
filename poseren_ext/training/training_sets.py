# SPDX-License-Identifier: MIT
"""Finite training sets held in memory: the frames of a pack, or a fixed number of synthetic frames."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from poseren_ext.datasets.packs.gpu_store import ResidentPack
from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.ops import normalize_pose


class TrainingSet(Protocol):
    """N labelled frames that can be cropped in any order: a `FrameBatch` is one."""

    def __len__(self) -> int:
        """N, the number of frames."""
        ...

    def __getitem__(self, chosen: Tensor, /) -> FrameBatch:
        """The frames at these positions (int64 [B], on the CPU)."""
        ...

    def poses(self, chosen: Tensor, /) -> Tensor:
        """Normalised joints [B, J, 3] of the frames at these positions; their depth is not read."""
        ...


class PackFrames:
    """The frames of a pack.

    Args:
        pack: the pack, in the memory of the device of the crops.
        cube: half edge of the crops' cubes, mm.
    """

    def __init__(self, pack: ResidentPack, cube: float) -> None:
        self.pack, self.cube = pack, cube

    def __len__(self) -> int:
        return len(self.pack)

    def __getitem__(self, chosen: Tensor) -> FrameBatch:
        return replace(self.pack.regions(chosen), cube=self.cube)

    def poses(self, chosen: Tensor) -> Tensor:
        """Normalised joints [B, J, 3] of the frames at these positions."""
        uvd, center = self.pack.labels(chosen)
        return normalize_pose(uvd, center, self.pack.camera, cube=self.cube)


def mean_pose(frames: TrainingSet) -> Tensor:
    """Normalised mean pose [J, 3] of all frames."""
    return frames.poses(torch.arange(len(frames))).mean(0)
