# SPDX-License-Identifier: MIT
"""Augmentation inside the crop: rotated, scaled and shifted depth, labels moved with it (paper, section 3.5).

A sample's transform is an affine map A [2, 3] of normalised crop coordinates, ``augmented = A p``. ``ops.depth_crop``
looks where ``A^-1`` points, so that the frame is read once, and nothing is interpolated twice. The numbers are drawn by
a counter from (seed, epoch, index): the same on every device, in every batch, in any order, in any process.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from poseren_ext._utils.counter_rng import Counter

_EPOCH_SHIFT = 40  # bits: more samples than any dataset has
_SALT = 0x41554747  # keeps these numbers apart from others drawn with the same seed


@dataclass(frozen=True)
class Augmentation:
    """Uniform ranges.

    Attributes:
        rotation: degrees, within plus and minus.
        translation: crop pixels along each axis, within plus and minus.
        scale: fraction, within one plus and minus it.

    Raises:
        ValueError: a negative range, or a scale that reaches zero.
    """

    rotation: float = 0.0
    translation: float = 0.0
    scale: float = 0.0

    def __post_init__(self) -> None:
        for name in ("rotation", "translation", "scale"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise ValueError(f"{name} is {value}; expected a number from 0: the range is plus and minus it")
        if self.scale >= 1:
            raise ValueError(f"scale is {self.scale}; expected a fraction below 1 (0.1: from 0.9 to 1.1)")

    def transform(self, index: Tensor, *, seed: int, epoch: int | Tensor, size: int = 96) -> Tensor:
        """Draws a transform for each sample: ``A p = scale * rotation @ p + translation``.

        Args:
            index: int64 [B], positions of the samples in their dataset.
            seed: any integer.
            epoch: from 0: one for all, or int64 [B] beside the index.
            size: S, side of the crop, pixels.

        Returns:
            float32 [B, 2, 3] on the index's device: ``transform`` of ``ops.depth_crop``.
        """
        if isinstance(epoch, int) and epoch < 0:
            raise ValueError(f"epoch is {epoch}; expected 0 or more")
        draw = Counter(seed ^ _SALT, index.to(torch.int64) + (epoch << _EPOCH_SHIFT))
        angle = math.radians(1.0) * draw.uniform("turn", 1, -self.rotation, self.rotation)[:, 0]
        scale = 1.0 + draw.uniform("scale", 1, -self.scale, self.scale)[:, 0]
        pixel = 2.0 / (size - 1)  # corner to corner: the crop's size - 1 steps span [-1, 1]
        shift = pixel * draw.uniform("shift", 2, -self.translation, self.translation)
        cos, sin = scale * angle.cos(), scale * angle.sin()
        return torch.stack([cos, -sin, shift[:, 0], sin, cos, shift[:, 1]], 1).view(-1, 2, 3)

    def reach(self, size: int = 96) -> float:
        """How far from the centre an augmented crop looks at most, in half edges of the cube along u or v."""
        turn = math.radians(min(self.rotation, 45.0))
        corner = math.cos(turn) + math.sin(turn)  # of the unit square, turned: at most sqrt(2)
        return corner * (1.0 + 2.0 * self.translation / (size - 1)) / (1.0 - self.scale)


PAPER = Augmentation(rotation=180.0, translation=10.0, scale=0.1)
"""The ranges of the paper (section 3.5)."""
