# SPDX-License-Identifier: MIT
"""Depth of boxes, cylinders and ellipsoids: exact, and only on the blocks of the image where one may land."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from poseren_ext.synthetic.kinematics import Cones
from poseren_ext.synthetic.render import BLOCK, block_boxes

BOX, CYLINDER, ELLIPSOID = 0, 1, 2


@dataclass(frozen=True)
class Solids:
    """K solids per frame, camera frame, mm.

    Attributes:
        center: [B, K, 3].
        rotation: [B, K, 3, 3]; the columns are the solid's axes.
        half: [B, K, 3] half sizes along the axes; 0 where there is no solid. A cylinder runs along its third axis.
        kind: int64 [B, K], BOX, CYLINDER or ELLIPSOID.
    """

    center: torch.Tensor
    rotation: torch.Tensor
    half: torch.Tensor
    kind: torch.Tensor

    def concat(self, other: Solids) -> Solids:
        """These solids and another's of the same frames."""
        names = ("center", "rotation", "half", "kind")
        return Solids(*(torch.cat([getattr(self, name), getattr(other, name)], 1) for name in names))

    def kept(self, frames: torch.Tensor) -> Solids:
        """The solids of some frames only (bool [B]); the others have none."""
        return Solids(self.center, self.rotation, self.half * frames[:, None, None], self.kind)


def _solid_depth(x: torch.Tensor, y: torch.Tensor, solid: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """First depth [N, P] at which the rays (x, y, 1) * depth meet N solids; inf where they miss.

    A ray is within a convex solid between the last of the depths where it enters one of the solid's bounds and the
    first where it leaves one: slabs for a box, a slab and an elliptic tube for a cylinder, the ellipsoid itself.
    """
    center, rotation, half, kind = solid
    # In units of the half sizes, along the solid's own axes.
    inverse = rotation.transpose(1, 2) / half[:, :, None]
    start = -(inverse @ center[:, :, None])[:, :, 0]
    o = [start[:, i, None] for i in range(3)]
    d = [inverse[:, i, 0, None] * x + inverse[:, i, 1, None] * y + inverse[:, i, 2, None] for i in range(3)]
    slabs = []
    for i in range(3):
        safe = torch.where(d[i].abs() < 1e-9, 1e-9, d[i])
        p, q = (-1.0 - o[i]) / safe, (1.0 - o[i]) / safe
        slabs.append((torch.minimum(p, q), torch.maximum(p, q)))
    third = (kind == ELLIPSOID)[:, None]
    a = d[0] * d[0] + d[1] * d[1] + torch.where(third, d[2] * d[2], 0.0)
    b = o[0] * d[0] + o[1] * d[1] + torch.where(third, o[2] * d[2], 0.0)
    c = o[0] * o[0] + o[1] * o[1] + torch.where(third, o[2] * o[2], 0.0) - 1.0
    disc = b * b - a * c
    root = disc.clamp(min=0.0).sqrt()
    a = a.clamp(min=1e-12)
    round_in, round_out = (-b - root) / a, (-b + root) / a
    missed = disc < 0.0
    round_in, round_out = round_in.masked_fill(missed, torch.inf), round_out.masked_fill(missed, -torch.inf)
    box = (kind == BOX)[:, None]
    side_in = torch.where(box, torch.maximum(slabs[0][0], slabs[1][0]), round_in)
    side_out = torch.where(box, torch.minimum(slabs[0][1], slabs[1][1]), round_out)
    enter = torch.where(third, side_in, torch.maximum(side_in, slabs[2][0]))
    leave = torch.where(third, side_out, torch.minimum(side_out, slabs[2][1]))
    return enter.masked_fill((enter > leave) | (enter <= 0.0), torch.inf)


def render_solids(solids: Solids, window: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Depth images of solids (mm, inf where no surface is met); arguments as `render_depth`'s.

    Returns:
        float32 [B, height, width].
    """
    B, K = solids.kind.shape
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    image = torch.full((B * rows * columns, BLOCK * BLOCK), torch.inf, dtype=torch.float32, device=window.device)
    radius = solids.half.norm(dim=-1)
    boxes = block_boxes(Cones(solids.center, solids.center, radius, radius), window, rows, columns)
    row = torch.arange(rows, device=window.device)[None, :, None]
    column = torch.arange(columns, device=window.device)[None, None, :]
    inner = torch.arange(BLOCK * BLOCK, device=window.device)
    for k in range(K):
        c0, c1, r0, r1 = (boxes[:, k, i, None, None] for i in range(4))
        there = (solids.half[:, k] > 0.0).all(1)[:, None, None]
        hit = (there & (column >= c0) & (column <= c1) & (row >= r0) & (row <= r1)).view(-1).nonzero()[:, 0]
        if not len(hit):
            continue
        frame, within = hit // (rows * columns), hit % (rows * columns)
        view = window[frame]
        x = view[:, 0, None] + view[:, 2, None] * ((within % columns)[:, None] * BLOCK + inner % BLOCK)
        y = view[:, 1, None] + view[:, 3, None] * ((within // columns)[:, None] * BLOCK + inner // BLOCK)
        parts = (solids.center[frame, k], solids.rotation[frame, k], solids.half[frame, k], solids.kind[frame, k])
        image[hit] = torch.minimum(image[hit], _solid_depth(x, y, parts))
    whole = image.view(B, rows, columns, BLOCK, BLOCK).transpose(2, 3).reshape(B, rows * BLOCK, columns * BLOCK)
    return whole[:, :height, :width]
