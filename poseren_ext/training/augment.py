# SPDX-License-Identifier: MIT
"""Augmentation in the crop's own plane (paper, section 4.1): the crop op turns the depth, the labels move with it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from poseren_ext.data.synthetic.random import Counter


@dataclass(frozen=True)
class Augmentation:
    """Uniform within plus and minus: rotation (degrees), translation (crop pixels), scale (fraction), depth (mm)."""

    rotation: float
    translation: float
    scale: float
    depth: float


def sample_transforms(rng: Counter, ranges: Augmentation, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Draws how each sample is moved.

    Args:
        rng: the samples' random numbers.
        ranges: how far.
        size: side of the crop, pixels.

    Returns:
        transform [B, 2, 3] for `depth_crop` (augmented = A p, normalised crop coordinates), and lift [B], mm by which
        the cube's centre goes away from the camera.
    """
    angle = math.radians(1.0) * rng.uniform("augturn", 1, -ranges.rotation, ranges.rotation)[:, 0]
    scale = 1.0 + rng.uniform("augsize", 1, -ranges.scale, ranges.scale)[:, 0]
    c, s = scale * angle.cos(), scale * angle.sin()
    pixel = 2.0 / (size - 1)
    shift = pixel * rng.uniform("augmove", 2, -ranges.translation, ranges.translation)
    linear = torch.stack([c, -s, s, c], 1).view(-1, 2, 2)
    return torch.cat([linear, shift[:, :, None]], 2), rng.uniform("auglift", 1, -ranges.depth, ranges.depth)[:, 0]


def transform_pose(pose: torch.Tensor, transform: torch.Tensor) -> torch.Tensor:
    """Normalised joints [B, J, 3] moved by transforms [B, 2, 3]; depths stay."""
    xy = pose[..., :2] @ transform[:, :, :2].transpose(1, 2) + transform[:, None, :, 2]
    return torch.cat([xy, pose[..., 2:]], -1)
