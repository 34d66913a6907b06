# SPDX-License-Identifier: MIT
"""The cube around the hand as the network sees it: cropped, resized, clamped, normalised (paper, section 3.5)."""

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
    """Cube crop, resize, clamp and normalise in one go.

    Output pixel (row j, column i) has the normalised coordinate ``q = (2i/(S-1) - 1, 2j/(S-1) - 1)`` and looks at
    ``u = cu + p_x * c_x*fx/z``, ``v = cv + p_y * c_y*fy/z`` with ``p = q``, or ``p = A^-1 q`` with a transform A:
    corner to corner, as the published system.

    Where a pixel looks is computed in float64 from the float32 arguments, so that every implementation picks the same
    taps; the four bilinear weights are products of the two fractions rounded to float32, and values are float32 from
    there on. "bilinear" takes the taps at floor(u), floor(u) + 1 and so in v, "nearest" the one at floor(u + 0.5),
    floor(v + 0.5). A tap outside the frame is background, ``z + c_z``. Every tap counts, also one of weight 0: with
    ``invalid=None`` a NaN among the four makes the pixel NaN.
    The gradient to a floating-point depth is that of the weights where the value is within the cube or on its face, and
    none for taps that were outside or replaced.

    Args:
        depth: [B, H, W] or [H, W]; uint16, int32, float16, bfloat16 or float32.
        center: [B, 3] or [3]: u, v in pixels, z in mm.
        camera: whose fx and fy tell how large the cube looks.
        cube: half edges c in mm: a number, [B] or [B, 3].
        size: S, side of the output; at least 2.
        transform: A [B, 2, 3] or [2, 3], moves normalised coordinates: augmented = A p.
        invalid: depth in mm that replaces, before interpolation, every stored value that is no depth (0, negative, NaN
            or infinite); "background" for ``z + c_z``; None takes stored values as they are.
        interpolation: "bilinear" or "nearest".
        depth_unit: mm per stored unit.
        dtype: float32, float16 or bfloat16 of the output.

    Returns:
        ``clamp(value - z, -c_z, c_z) / c_z``: [B, 1, S, S] (or [1, S, S]) in [-1, 1]. A sample is NaN, and its frame is
        not read, where center, fx, fy, cube or transform is not finite, where z, fx, fy or cube is not positive, and
        where the transform's determinant is 0.

    Raises:
        TypeError: depth of another type, an output type that is not floating-point.
        ValueError: shapes that do not match, a size or unit that makes no crop, an unknown policy.
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
    # Beyond the frame's rim everything is background: bounded, every place fits an integer.
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
    """Where each output pixel looks: u and v in pixels, float64 [B, S, S].

    Args:
        center: [B, 3].
        focal: fx, fy [B, 2].
        cube: half edges [B, 3].
        transform: [B, 2, 3].
        determinant: of the transform's linear part [B].
        S: side of the output.
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
    """Depth in mm at whole pixels: float32 [B, S, S].

    Args:
        depth: [B, H, W].
        column: [B, S, S].
        row: [B, S, S].
        unit: mm per stored unit.
        background: depth of what lies outside the frame [B, 1, 1], mm.
        policy: depth that stands for invalid values, mm; None takes them as they are.
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
