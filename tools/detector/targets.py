# SPDX-License-Identifier: MIT
"""Training targets and loss of the first stage of the hand detector."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from poseren_ext.models.hand_proposals import CELL
from tools.detector.frames import Batch

_HAND = 190.0  # mm: extent of a hand
_MM = 20.0
_PLACE = 0.15  # weight of an error of _MM


def augmented(batch: Batch, generator: torch.Generator) -> Batch:
    """Frames mirrored, shifted by up to 12 pixels and scaled in depth by up to 8 %."""
    B, height, width = batch.depth.shape
    u = torch.rand(B, 3, generator=generator)
    depth, side = batch.depth.float(), batch.side.clone()
    points = torch.cat([batch.center[:, :, None], batch.joints], 2)  # [B, 2, 1 + J, 3]
    for axis, chance in ((0, 0.5), (1, 0.25)):
        flipped = u[:, axis] < chance
        depth = torch.where(flipped[:, None, None], depth.flip(2 - axis), depth)
        last = (width, height)[axis] - 1
        points[..., axis] = torch.where(flipped[:, None, None], last - points[..., axis], points[..., axis])
        side = torch.where(flipped[:, None] & (side >= 0), 1 - side, side)
    scale = 0.92 + 0.16 * u[:, 2]
    depth = depth * scale[:, None, None]
    points[..., 2] *= scale[:, None, None]
    dv, du = (int(torch.randint(-12, 13, (1,), generator=generator)) for _ in range(2))
    depth = F.pad(depth, (max(du, 0), max(-du, 0), max(dv, 0), max(-dv, 0)))
    depth = depth[:, max(-dv, 0) :, max(-du, 0) :][:, :height, :width]
    points = points + points.new_tensor([du, dv, 0.0])
    return replace(batch, depth=depth, center=points[:, :, 0], joints=points[:, :, 1:], side=side)


def loss(maps: Tensor, batch: Batch) -> Tensor:
    """Focal loss of the scores, absolute errors of the centres; maps [B, 4, h, w]."""
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
    there = batch.wanted & inside
    unsure = batch.unsure | (batch.wanted & ~inside)
    maps = maps.float()
    target, free = maps.new_zeros(len(maps), h, w), maps.new_ones(len(maps), h, w)
    total = maps.new_zeros(())
    for hand in (0, 1):
        own = there[:, hand, None, None]
        target = torch.maximum(target, torch.where(nearest[:, hand], 1.0, bump[:, hand]) * own)
        free = torch.where(unsure[:, hand, None, None] & (bump[:, hand] > 0.05), 0.0, free)
        weight = torch.where(bump[:, hand] > 0.5, bump[:, hand], 0.0).maximum(nearest[:, hand].float()) * own
        weight = weight / weight.sum((1, 2), keepdim=True).clamp(min=1e-6)
        mm = pitch[:, hand, None, None]
        error = (maps[:, 1] - dx[:, hand, None, :]).abs() * mm + (maps[:, 2] - dy[:, hand, :, None]).abs() * mm
        depth = batch.center[:, hand, 2, None, None]
        error = error + (maps[:, 3] - torch.log(depth.clamp(min=1.0) / 1000.0)).abs() * depth
        total = total + (weight * _PLACE * error / _MM).sum()
    p = maps[:, 0].sigmoid().clamp(1e-4, 1 - 1e-4)
    hit = target == 1.0
    focal = torch.where(hit, -((1 - p) ** 2) * p.log(), -((1 - target) ** 4) * p**2 * (1 - p).log()) * free
    return (focal.sum() + total) / max(float(there.sum()), 1.0)
