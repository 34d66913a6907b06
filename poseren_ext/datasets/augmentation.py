# SPDX-License-Identifier: MIT
"""Augmentation inside the crop: rotated, scaled and shifted depth, labels moved with it (paper, section 3.5).

A sample's transform is an affine map A [2, 3] of normalised crop coordinates, ``augmented = A p``. ``ops.depth_crop``
samples the frame at ``A^-1`` of each output pixel, so that depth is interpolated once. Random numbers are a function of
(seed, epoch, index): the same on every device, in every batch and order, and in every process.
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
    """Ranges of the uniform distributions that transforms are drawn from.

    Attributes:
        rotation: degrees, from -rotation to rotation.
        translation: crop pixels along each axis, from -translation to translation.
        scale: fraction; factors from 1 - scale to 1 + scale.

    Raises:
        ValueError: A range is negative, or scale is 1 or more.
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
            Tensor: float32 [B, 2, 3] on the index's device: ``transform`` of ``ops.depth_crop``.
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
        """Largest distance from the centre along u or v that an augmented crop covers, in half edges of the cube."""
        turn = math.radians(min(self.rotation, 45.0))
        corner = math.cos(turn) + math.sin(turn)  # of the unit square, turned: at most sqrt(2)
        return corner * (1.0 + 2.0 * self.translation / (size - 1)) / (1.0 - self.scale)


PAPER = Augmentation(rotation=180.0, translation=10.0, scale=0.1)
"""The ranges of the paper (section 3.5)."""
