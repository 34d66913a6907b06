# SPDX-License-Identifier: MIT
"""Training targets and loss of the hand detector."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from poseren_ext.models.detector import CELL

VISIBLE = 0.15
"""Least visible share of a hand that the detector is asked to find."""
_IGNORED = 0.03  # hands that are less visible count as background; between the two, neither answer costs anything
_HAND = 190.0  # mm: extent of a hand
_MM = 20.0
_PLACE, _SIDE = 0.15, 0.7  # weights of an error of _MM and of the side


@dataclass(frozen=True)
class Batch:
    """B frames at the detector's resolution, and the centres of their hands.

    Attributes:
        depth: [B, H, W] mm, of any type.
        focal: [B] pixels.
        center: [B, 2, 3] u, v (pixels), d (mm).
        side: int64 [B, 2], 0 right, 1 left, -1 none.
        visible: [B, 2].
    """

    depth: Tensor
    focal: Tensor
    center: Tensor
    side: Tensor
    visible: Tensor


def box_centers(uvd: Tensor, focal: Tensor) -> Tensor:
    """u, v, d [..., 3] of the middle of the box around joints [..., J, 3] in the camera's axes.

    Args:
        uvd: joints in pixels relative to the principal point, and mm.
        focal: [...] pixels.
    """
    xyz = torch.cat([uvd[..., :2] * uvd[..., 2:] / focal[..., None, None], uvd[..., 2:]], -1)
    middle = 0.5 * (xyz.amin(-2) + xyz.amax(-2))
    return torch.cat([middle[..., :2] / middle[..., 2:] * focal[..., None], middle[..., 2:]], -1)


def augmented(batch: Batch, generator: torch.Generator) -> Batch:
    """Frames mirrored, shifted by up to 12 pixels and scaled in depth by up to 8 %."""
    B, height, width = batch.depth.shape
    u = torch.rand(B, 3, generator=generator)
    depth, center, side = batch.depth.float(), batch.center.clone(), batch.side.clone()
    for axis, chance in ((0, 0.5), (1, 0.25)):
        flipped = u[:, axis] < chance
        depth = torch.where(flipped[:, None, None], depth.flip(2 - axis), depth)
        last = (width, height)[axis] - 1
        center[..., axis] = torch.where(flipped[:, None], last - center[..., axis], center[..., axis])
        side = torch.where(flipped[:, None] & (side >= 0), 1 - side, side)
    scale = 0.92 + 0.16 * u[:, 2]
    depth = depth * scale[:, None, None]
    center[..., 2] *= scale[:, None]
    dv, du = (int(torch.randint(-12, 13, (1,), generator=generator)) for _ in range(2))
    depth = F.pad(depth, (max(du, 0), max(-du, 0), max(dv, 0), max(-dv, 0)))
    depth = depth[:, max(-dv, 0) :, max(-du, 0) :][:, :height, :width]
    center = center + center.new_tensor([du, dv, 0.0])
    return replace(batch, depth=depth, center=center, side=side)


def loss(maps: Tensor, batch: Batch) -> Tensor:
    """Focal loss of the scores, absolute errors of the centres, cross entropy of the sides; maps [B, 5, h, w]."""
    h, w = maps.shape[2:]
    cell = (batch.center[..., :2] + 0.5) / CELL  # u, v in cells; a cell's middle is at its index plus one half
    pitch = CELL * batch.center[..., 2] / batch.focal[:, None]  # mm per cell
    extent = _HAND / pitch  # of a hand, cells
    x = torch.arange(w) + 0.5
    y = torch.arange(h) + 0.5
    dx, dy = cell[..., 0, None] - x, cell[..., 1, None] - y  # [B, 2, w], [B, 2, h]
    squared = dx[:, :, None, :] ** 2 + dy[:, :, :, None] ** 2
    sigma = (0.12 * extent).clamp(0.6, 2.5)[:, :, None, None]
    bump = torch.exp(-0.5 * squared / sigma**2)
    nearest = squared == squared.amin((2, 3), keepdim=True)
    inside = (cell > 0).all(2) & (cell[..., 0] < w) & (cell[..., 1] < h)
    wanted = (batch.visible >= VISIBLE) & inside & (batch.side >= 0)
    unsure = (batch.visible >= _IGNORED) & ~wanted & (batch.side >= 0)
    maps = maps.float()
    target, free = maps.new_zeros(len(maps), h, w), maps.new_ones(len(maps), h, w)
    total = maps.new_zeros(())
    for hand in (0, 1):
        own = wanted[:, hand, None, None]
        target = torch.maximum(target, torch.where(nearest[:, hand], 1.0, bump[:, hand]) * own)
        free = torch.where(unsure[:, hand, None, None] & (bump[:, hand] > 0.05), 0.0, free)
        weight = torch.where(bump[:, hand] > 0.5, bump[:, hand], 0.0).maximum(nearest[:, hand].float()) * own
        weight = weight / weight.sum((1, 2), keepdim=True).clamp(min=1e-6)
        mm = pitch[:, hand, None, None]
        error = (maps[:, 2] - dx[:, hand, None, :]).abs() * mm + (maps[:, 3] - dy[:, hand, :, None]).abs() * mm
        depth = batch.center[:, hand, 2, None, None]
        error = error + (maps[:, 4] - torch.log(depth.clamp(min=1.0) / 1000.0)).abs() * depth
        left = (batch.side[:, hand] == 1).float()[:, None, None].expand(-1, h, w)
        side = F.binary_cross_entropy_with_logits(maps[:, 1], left, reduction="none")
        total = total + (weight * (_PLACE * error / _MM + _SIDE * side)).sum()
    p = maps[:, 0].sigmoid().clamp(1e-4, 1 - 1e-4)
    hit = target == 1.0
    focal = torch.where(hit, -((1 - p) ** 2) * p.log(), -((1 - target) ** 4) * p**2 * (1 - p).log()) * free
    return (focal.sum() + total) / max(float(wanted.sum()), 1.0)
