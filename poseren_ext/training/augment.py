# SPDX-License-Identifier: MIT
"""Augmentation in the crop's own plane: turned, shifted and scaled depth, labels moved with it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from poseren_ext.data.synthetic.random import Counter


@dataclass(frozen=True)
class Augmentation:
    """Uniform within plus and minus: rotation (degrees), translation (crop pixels), scale (fraction), depth (mm)."""

    rotation: float
    translation: float
    scale: float
    depth: float


@dataclass(frozen=True)
class CropTransform:
    """augmented (x, y) = linear @ (x, y) + shift; augmented depth = depth - lift, all in normalised crop units.

    Attributes:
        linear: [B, 2, 2]; shift: [B, 2]; lift: [B].
    """

    linear: torch.Tensor
    shift: torch.Tensor
    lift: torch.Tensor

    def pose(self, pose: torch.Tensor) -> torch.Tensor:
        """Normalised joints [B, J, 3], moved."""
        xy = pose[..., :2] @ self.linear.transpose(1, 2) + self.shift[:, None]
        return torch.cat([xy, pose[..., 2:] - self.lift[:, None, None]], -1)

    def crop(self, tile: torch.Tensor, margin: float, size: int) -> torch.Tensor:
        """Crops [B, 1, size, size] in [-1, 1] out of normalised tiles [B, 1, S, S] that reach to +-margin."""
        line = torch.linspace(-1.0, 1.0, size, device=tile.device)
        target = torch.stack(torch.meshgrid(line, line, indexing="xy"), -1).view(1, -1, 2)
        source = (target - self.shift[:, None]) @ torch.linalg.inv(self.linear).transpose(1, 2)
        grid = (source / margin).view(len(tile), size, size, 2)
        moved = torch.where(tile < 1.0, tile - self.lift[:, None, None, None], 1.0).clamp_(-1.0, 1.0)
        return F.grid_sample(moved, grid, mode="bilinear", padding_mode="border", align_corners=True)


def sample_transform(rng: Counter, ranges: Augmentation, size: int, cube: float) -> CropTransform:
    """Draws one transform a sample."""
    angle = math.radians(1.0) * rng.uniform("augturn", 1, -ranges.rotation, ranges.rotation)[:, 0]
    scale = 1.0 + rng.uniform("augsize", 1, -ranges.scale, ranges.scale)[:, 0]
    c, s = scale * angle.cos(), scale * angle.sin()
    pixel = 2.0 / (size - 1)
    return CropTransform(
        torch.stack([c, -s, s, c], 1).view(-1, 2, 2),
        pixel * rng.uniform("augmove", 2, -ranges.translation, ranges.translation),
        rng.uniform("auglift", 1, -ranges.depth, ranges.depth)[:, 0] / cube,
    )
