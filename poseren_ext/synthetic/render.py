# SPDX-License-Identifier: MIT
"""Exact depth of round cones per pixel, computed only in the image blocks that the bounding box of a cone covers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import lru_cache

import torch

from poseren_ext.synthetic.kinematics import Cones

BLOCK = 8


def block_boxes(cones: Cones, window: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Inclusive block ranges of the image box of each cone: int64 [B, K, 4] = first, last column, first, last row."""

    def extent(axis: int) -> tuple[torch.Tensor, torch.Tensor]:
        lows, highs = [], []
        for centre, radius in ((cones.a, cones.ra), (cones.b, cones.rb)):
            z = centre[..., 2].clamp(min=1.0)
            slope = centre[..., axis] / z
            # silhouette of a sphere: within r/z * sqrt(1 + slope^2) of its centre, a bit more when near
            reach = radius / (z - radius).clamp(min=1.0) * torch.sqrt(1.0 + slope * slope)
            lows.append(slope - reach)
            highs.append(slope + reach)
        start, step = window[:, axis, None], window[:, axis + 2, None]
        limit = columns if axis == 0 else rows
        first = torch.floor((torch.minimum(*lows) - start) / step / BLOCK).clamp(0, limit)
        last = torch.floor((torch.maximum(*highs) - start) / step / BLOCK).clamp(-1, limit - 1)
        return first, last

    return torch.stack([*extent(0), *extent(1)], -1).long()


def _cone_depth(x: torch.Tensor, y: torch.Tensor, cone: torch.Tensor) -> torch.Tensor:
    """First depth at which the rays (x, y, 1) * depth meet a round cone; inf where they miss.

    A round cone is the envelope of spheres of centre a + s v and radius ra + s w, s in [0, 1]. At the sphere touched by
    the surface, d/ds of |p - a - s v|^2 - (ra + s w)^2 is zero; eliminating s gives a quadratic in the depth. With s
    clamped, the sphere at s is the one that the ray hits first, so one formula covers the body and both caps.

    Args:
        x: [N, P] horizontal slopes of the rays.
        y: [N, P] vertical slopes.
        cone: [N, 8] = a, b, ra, rb.
    """
    a, v = cone[:, 0:3], cone[:, 3:6] - cone[:, 0:3]
    ra, w = cone[:, 6], cone[:, 7] - cone[:, 6]
    ax, ay, az = (a[:, i, None] for i in range(3))
    vx, vy, vz = (v[:, i, None] for i in range(3))
    A = ((v * v).sum(1) - w * w)[:, None]
    swallowed = A <= 0.0  # the sphere at one end contains the other: only it is visible
    A = torch.where(swallowed, 1.0, A)
    e = ((a * v).sum(1) - ra * w)[:, None]
    rest = ((a * a).sum(1) - ra * ra)[:, None]
    dd = x * x + y * y + 1.0
    dv = x * vx + y * vy + vz
    da = x * ax + y * ay + az
    qa = A * dd - dv * dv
    qb = A * da - dv * e
    root = qb * qb - qa * (A * rest - e * e)
    s = ((qb - root.clamp(min=0.0).sqrt_()) / qa * dv - e) / A
    narrow = torch.minimum(cone[:, 6], cone[:, 7])[:, None]  # no sphere on the surface is smaller
    # A ray steeper than the side of the cone may stay inside the cone or hit its mirror image beyond the apex: then
    # only the sphere at the nearer end can be hit. The same holds for a ray exactly as steep, for which s may be NaN.
    inside = (qa <= 0.0) & ((root < 0.0) | ~(ra[:, None] + s * w[:, None] >= 0.5 * narrow))
    s = torch.where(inside, (dv < 0.0).float(), s.clamp_(0.0, 1.0))
    s = torch.where(swallowed, (w > 0.0).float()[:, None], s)
    dc = da + s * dv
    cc = (rest + ra[:, None] ** 2) + s * (2.0 * (a * v).sum(1, keepdim=True) + s * (v * v).sum(1, keepdim=True))
    radius = ra[:, None] + s * w[:, None]
    disc = dc * dc - dd * (cc - radius * radius)
    depth = (dc - disc.clamp(min=0.0).sqrt_()) / dd
    return depth.masked_fill_(disc < 0.0, torch.inf)


def _hit_depth(
    window: torch.Tensor, cones: torch.Tensor, frame: torch.Tensor, row: torch.Tensor, column: torch.Tensor
) -> torch.Tensor:
    """Depth [N, BLOCK * BLOCK] of one cone in N blocks, given the frame, row and column of each block."""
    view = window[frame]
    inner = torch.arange(BLOCK * BLOCK, device=window.device)
    x = view[:, 0, None] + view[:, 2, None] * (column[:, None] * BLOCK + inner % BLOCK).float()
    y = view[:, 1, None] + view[:, 3, None] * (row[:, None] * BLOCK + inner // BLOCK).float()
    return _cone_depth(x, y, cones[frame])


_HIT_DEPTH: ContextVar[Callable[..., torch.Tensor]] = ContextVar("hit_depth", default=_hit_depth)


@contextmanager
def compiled_rendering(wanted: bool = True) -> Iterator[None]:
    """Renders with the formula of the cones compiled into one kernel; on a GPU its sixty steps are memory-bound.

    Depths may differ in the last bits from those of uncompiled rendering.
    """
    token = _HIT_DEPTH.set(_compiled_hit_depth() if wanted else _HIT_DEPTH.get())
    try:
        yield
    finally:
        _HIT_DEPTH.reset(token)


@lru_cache(maxsize=1)
def _compiled_hit_depth() -> Callable[..., torch.Tensor]:
    return torch.compile(_hit_depth, dynamic=True)


def render_depth(cones: Cones, window: torch.Tensor, height: int, width: int) -> torch.Tensor:
    """Depth images of hands (mm, inf where no surface is hit).

    Args:
        cones: K cones per hand, camera frame (x right, y down, z forward), mm.
        window: [B, 4] the virtual camera: pixel (column i, row j) looks along
            (window[0] + i * window[2], window[1] + j * window[3], 1).
        height: of the image, pixels.
        width: of the image, pixels.

    Returns:
        float32 [B, height, width].
    """
    B, K = cones.ra.shape
    rows, columns = -(-height // BLOCK), -(-width // BLOCK)
    device = window.device
    image = torch.full((B * rows * columns, BLOCK * BLOCK), torch.inf, dtype=torch.float32, device=device)
    boxes = block_boxes(cones, window, rows, columns)
    packed = torch.cat([cones.a, cones.b, cones.ra[..., None], cones.rb[..., None]], -1)
    row = torch.arange(rows, device=device)[None, :, None]
    column = torch.arange(columns, device=device)[None, None, :]
    hit_depth = _HIT_DEPTH.get()
    for k in range(K):
        c0, c1, r0, r1 = (boxes[:, k, i, None, None] for i in range(4))
        hit = ((column >= c0) & (column <= c1) & (row >= r0) & (row <= r1)).view(-1).nonzero()[:, 0]
        frame = hit // (rows * columns)
        within = hit % (rows * columns)
        depth = hit_depth(window, packed[:, k], frame, within // columns, within % columns)
        image[hit] = torch.minimum(image[hit], depth)
    whole = image.view(B, rows, columns, BLOCK, BLOCK).transpose(2, 3).reshape(B, rows * BLOCK, columns * BLOCK)
    return whole[:, :height, :width]
