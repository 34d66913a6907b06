# SPDX-License-Identifier: MIT
"""Finite training sets held in memory: the frames of a pack, or a fixed number of synthetic frames."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from poseren_ext.datasets.packs.gpu_store import ResidentPack
from poseren_ext.ops import depth_crop, normalize_pose


class TrainingSet(Protocol):
    """N labelled frames that can be cropped in any order."""

    def __len__(self) -> int:
        """N, the number of frames."""
        ...

    def poses(self, index: Tensor, cube: float) -> Tensor:
        """Normalised joints [B, J, 3] of the frames at these positions (int64 [B], on the CPU)."""
        ...

    def crops(self, index: Tensor, cube: float, size: int, transform: Tensor | None = None) -> Tensor:
        """Crops [B, 1, size, size] of the frames at these positions, with optional transforms [B, 2, 3]."""
        ...


class PackFrames:
    """The frames of a pack.

    Args:
        pack: the pack, in the memory of the device of the crops.
    """

    def __init__(self, pack: ResidentPack) -> None:
        self.pack = pack

    def __len__(self) -> int:
        return len(self.pack)

    def poses(self, index: Tensor, cube: float) -> Tensor:
        """Normalised joints [B, J, 3] of the frames at these positions."""
        uvd, center = self.pack.labels(index)
        return normalize_pose(uvd, center, self.pack.camera, cube=cube)

    def crops(self, index: Tensor, cube: float, size: int, transform: Tensor | None = None) -> Tensor:
        """Crops [B, 1, size, size] of the frames at these positions."""
        regions = self.pack.regions(index)
        unit = self.pack.info.unit
        return depth_crop(
            regions.depth,
            regions.center,
            self.pack.camera,
            cube=cube,
            size=size,
            transform=transform,
            depth_unit=unit,
        )


def mean_pose(frames: TrainingSet, cube: float) -> Tensor:
    """Normalised mean pose [J, 3] of all frames."""
    return frames.poses(torch.arange(len(frames)), cube).mean(0)
