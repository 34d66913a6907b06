# SPDX-License-Identifier: MIT
"""Crop of the cube around the hand: cropped, resized, clamped and normalised (paper, section 3.5)."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from poseren_ext._utils.arrays import stored_at
from poseren_ext.geometry.camera import CameraLike
from poseren_ext.reference._inputs import batched_depth, camera_rows, companion, cube_rows, positive


def depth_crop(
    depth: Tensor,
    center: Tensor,
    camera: CameraLike,
    *,
    cube: float | Tensor = 150.0,
    size: int = 96,
    transform: Tensor | None = None,
    invalid: float | Literal["background"] | None = "background",
    interpolation: Literal["bilinear", "nearest"] = "bilinear",
    depth_unit: float = 1.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """`poseren_ext.ops.depth_crop` in PyTorch: the same arguments (tensors only), results and errors.

    Sampling positions are computed in float64 from the float32 arguments, so that every implementation selects the same
    taps. The four bilinear weights are products of the two fractions rounded to float32; all later values are float32.
    "bilinear" uses the taps at floor(u), floor(u) + 1, and likewise in v; "nearest" uses the tap at floor(u + 0.5),
    floor(v + 0.5). A tap outside the frame is background, ``z + c_z``. Taps of weight 0 count too: with
    ``invalid=None`` a NaN among the four taps makes the pixel NaN.
    The gradient with respect to a floating-point depth is the weight of the tap if the value is inside the cube or on
    its face, and 0 otherwise. Taps outside the frame and replaced taps have no gradient.
    """
    depth, batched = batched_depth(depth)
    B, H, W = depth.shape
    if size < 2:
        raise ValueError(f"size is {size}; expected 2 pixels or more")
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise TypeError(f"dtype is {dtype}; expected float32, float16 or bfloat16")
    if interpolation not in ("bilinear", "nearest"):
        raise ValueError(f"interpolation is {interpolation!r}; expected 'bilinear' or 'nearest'")
    if isinstance(invalid, str) and invalid != "background":
        raise ValueError(f"invalid is {invalid!r}; expected 'background', a depth in mm, or None")
    center = companion(center, "center", (3,), B, batched).float()
    focal = camera_rows(camera, B, depth.device)[:, :2]
    edges = cube_rows(cube, B, depth.device)
    if transform is None:
        transform = torch.eye(2, 3, device=depth.device).expand(B, 2, 3)
    else:
        transform = companion(transform, "transform", (2, 3), B, batched).float()

    known = torch.cat([center, focal, edges, transform.flatten(1)], 1).isfinite().all(1)
    lengths = torch.cat([center[:, 2:], focal, edges], 1)
    A = transform.double()
    determinant = A[:, 0, 0] * A[:, 1, 1] - A[:, 0, 1] * A[:, 1, 0]
    usable = known & (lengths > 0).all(1) & (determinant != 0)  # [B]

    u, v = _places(center.double(), focal.double(), edges.double(), A, determinant, size)
    # Everything outside the frame is background, so clamp the positions to fit an integer.
    u = torch.where(usable[:, None, None], u, -2).clamp(-2, W + 1)
    v = torch.where(usable[:, None, None], v, -2).clamp(-2, H + 1)
    z, half = center[:, 2, None, None], edges[:, 2, None, None]
    background = torch.where(usable[:, None, None], z + half, 0)
    policy = background if invalid == "background" else None if invalid is None else float(invalid)
    unit = positive(depth_unit, "depth_unit")

    def tap(column: Tensor, row: Tensor) -> Tensor:
        return _tap(depth, column.long(), row.long(), unit, background, policy)

    if interpolation == "nearest":
        value = tap((u + 0.5).floor(), (v + 0.5).floor())
    else:
        left, top = u.floor(), v.floor()
        x, y = (u - left).float(), (v - top).float()
        value = (1 - y) * (1 - x) * tap(left, top) + (1 - y) * x * tap(left + 1, top)
        value = value + y * (1 - x) * tap(left, top + 1) + y * x * tap(left + 1, top + 1)
    crop = (value - z).clamp(-half, half) / half
    crop = torch.where(usable[:, None, None], crop, torch.nan).to(dtype)[:, None]
    return crop if batched else crop[0]


def _places(
    center: Tensor, focal: Tensor, cube: Tensor, transform: Tensor, determinant: Tensor, S: int
) -> tuple[Tensor, Tensor]:
    """Sampling position of each output pixel: u and v in pixels, float64 [B, S, S].

    Args:
        center: [B, 3].
        focal: fx, fy [B, 2].
        cube: half edges [B, 3].
        transform: [B, 2, 3].
        determinant: determinant of the linear part of the transform [B].
        S: side of the output, pixels.
    """
    q = 2 * torch.arange(S, device=center.device, dtype=torch.float64) / (S - 1) - 1
    (a, b, e), (c, d, f) = (row[:, :, None, None].unbind(1) for row in transform.unbind(1))
    x, y = q - e, q[:, None] - f  # [B, 1, S], [B, S, 1]
    determinant = determinant[:, None, None]
    p_x = (d * x - b * y) / determinant
    p_y = (a * y - c * x) / determinant
    half = cube[:, :2] * focal / center[:, 2:]
    u = center[:, 0, None, None] + p_x * half[:, 0, None, None]
    v = center[:, 1, None, None] + p_y * half[:, 1, None, None]
    return u, v


def _tap(
    depth: Tensor, column: Tensor, row: Tensor, unit: float, background: Tensor, policy: Tensor | float | None
) -> Tensor:
    """Depth in mm at integer pixel positions: float32 [B, S, S].

    Args:
        depth: [B, H, W].
        column: [B, S, S].
        row: [B, S, S].
        unit: mm per stored unit.
        background: depth outside the frame [B, 1, 1], mm.
        policy: depth that replaces invalid values, mm; None keeps them.
    """
    B, H, W = depth.shape
    if H == 0 or W == 0:
        return background.expand(column.shape)
    sample = torch.arange(B, device=depth.device)[:, None, None]
    stored = stored_at(depth, sample, row.clamp(0, H - 1), column.clamp(0, W - 1)).float()
    value = stored * unit
    if policy is not None:
        value = torch.where((stored > 0) & stored.isfinite(), value, policy)
    inside = (column >= 0) & (column < W) & (row >= 0) & (row < H)
    return torch.where(inside, value, background)
