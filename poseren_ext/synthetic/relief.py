# SPDX-License-Identifier: MIT
"""Changes of the relief of surfaces in rendered depth: smoothing within surfaces, and slow random waves."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from poseren_ext._utils.counter_rng import Counter

_SAME_SURFACE = 20.0  # mm: largest difference in depth of neighbouring pixels of one surface
_PASSES = 6  # most often that a frame is smoothed; 3x3 means, so the last ones reach some 5 pixels far
_SMOOTHED = 0.5  # share of the frames
_WAVES = 7  # knots of the waves in each direction
_HEIGHT = 2.0  # mm: standard deviation of their amplitude


def surface_means(depth: torch.Tensor) -> torch.Tensor:
    """Mean of each pixel and those of its eight neighbours on the same surface, [B, H, W] mm; 0 stays where it is 0."""
    padded = F.pad(depth[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
    H, W = depth.shape[1:]
    total, count = torch.zeros_like(depth), torch.zeros_like(depth)
    for dy in range(3):
        for dx in range(3):
            other = padded[:, dy : dy + H, dx : dx + W]
            near = (other - depth).abs() < _SAME_SURFACE
            total += torch.where(near, other, 0.0)
            count += near
    return torch.where(depth > 0.0, total / count, 0.0)


def vary_relief(depth: torch.Tensor, rng: Counter) -> torch.Tensor:
    """Depth [B, H, W] mm with the relief of other hands and filters: half of the frames smoothed, all with slow waves.

    The generator's palms and backs differ in details of a few mm which real ones, seen by a camera that smooths, do not
    have. A model that relies on them takes recorded flat palms for backs, whatever their outline says.
    """
    H, W = depth.shape[1:]
    u = rng.uniform("reliefsmooth", 2)
    passes = torch.where(u[:, 0] < _SMOOTHED, 1 + (u[:, 1] * _PASSES).long(), 0)
    depth = depth.clone()
    for count in range(1, _PASSES + 1):
        chosen = (passes >= count).nonzero()[:, 0]
        if len(chosen):
            depth[chosen] = surface_means(depth[chosen])
    height = _HEIGHT * rng.normal("reliefheight", 1).abs()
    knots = (height * rng.normal("relief", _WAVES * _WAVES)).view(-1, 1, _WAVES, _WAVES)
    waves = F.interpolate(knots, (H, W), mode="bicubic", align_corners=True)[:, 0]
    return torch.where(depth > 0.0, (depth + waves).clamp(min=1.0), 0.0)
