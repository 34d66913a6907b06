# SPDX-License-Identifier: MIT
"""The centroid of the hand region, the centre of the crop (paper, section 3.5)."""

from __future__ import annotations

import torch
from torch import Tensor

from poseren_ext.geometry.camera import CameraLike
from poseren_ext.reference._inputs import batched_depth, camera_rows, companion, cube_rows, positive


def hand_center(
    depth: Tensor,
    *,
    near: float,
    far: float,
    mask: Tensor | None = None,
    depth_unit: float = 1.0,
    iterations: int = 0,
    cube: float | Tensor = 150.0,
    camera: CameraLike | None = None,
) -> tuple[Tensor, Tensor]:
    """`poseren_ext.ops.hand_center` in PyTorch: the same arguments (tensors only), results and errors.

    A pixel is valid if its depth is positive and finite, ``near <= depth * depth_unit <= far``, and the mask, if any,
    is True. Depths in mm below the smallest normal float32 (1.2e-38) count as 0.
    Each iteration recomputes the mean over the valid pixels inside the cube around the last centre (u, v, z):
    ``u - c*fx/z <= column <= u + c*fx/z``, the same for rows, ``z - c <= depth * depth_unit <= z + c``. If a cube has
    no valid pixel (as in the middle of a ring), the last centre and count of the frame are kept.
    All comparisons are in float32 and inclusive; the depth of an integer pixel is rounded to float32 first. Sums are
    exact int64 for integer depth and float64 for floating-point depth; they are divided (and multiplied by the unit) in
    float64; the centre that an iteration starts from is rounded to float32.
    """
    depth, batched = batched_depth(depth)
    B, H, W = depth.shape
    if not near <= far:
        raise ValueError(f"near is {near} and far {far}; expected near <= far, in mm")
    if iterations < 0 or (iterations > 0 and camera is None):
        raise ValueError(f"iterations is {iterations}; expected 0 or more, and a camera to refine with")
    scaled = depth.float() * positive(depth_unit, "depth_unit")  # [B, H, W] mm
    valid = (scaled >= max(float(near), torch.finfo(torch.float32).tiny)) & (scaled <= float(far)) & scaled.isfinite()
    if mask is not None:
        if mask.dtype != torch.bool:
            raise TypeError(f"mask has dtype {mask.dtype}; expected bool")
        valid = valid & companion(mask, "mask", (H, W), B, batched)
    center, count = _mean(depth, valid, depth_unit)
    if camera is not None:
        focal = camera_rows(camera, B, depth.device)[:, :2]
        edges = cube_rows(cube, B, depth.device)
        for _ in range(iterations):
            inside = valid & _in_cube(scaled, center, focal, edges)
            moved, inside_count = _mean(depth, inside, depth_unit)
            center = torch.where(inside_count[:, None] > 0, moved, center)
            count = torch.where(inside_count > 0, inside_count, count)
    return (center, count) if batched else (center[0], count[0])


def _mean(depth: Tensor, valid: Tensor, depth_unit: float) -> tuple[Tensor, Tensor]:
    """Mean column, row and depth of the valid pixels, float32 [B, 3], and their number, int64 [B]."""
    H, W = depth.shape[1:]
    count = valid.sum((1, 2))
    columns = (valid * torch.arange(W, device=depth.device)).sum((1, 2))
    rows = (valid * torch.arange(H, device=depth.device)[:, None]).sum((1, 2))
    wide = depth.to(torch.float64 if depth.is_floating_point() else torch.int64)
    total = torch.where(valid, wide, 0).sum((1, 2))
    u, v, d = (values.double() / count for values in (columns, rows, total))  # 0 / 0 = NaN: no valid pixel
    return torch.stack([u, v, d * float(depth_unit)], 1).float(), count


def _in_cube(scaled: Tensor, center: Tensor, focal: Tensor, cube: Tensor) -> Tensor:
    """Pixels of depth scaled [B, H, W] mm inside the cube [B, 3] around center [B, 3]; focal [B, 2]: bool [B, H, W]."""
    H, W = scaled.shape[1:]
    half = torch.cat([cube[:, :2] * focal / center[:, 2:], cube[:, 2:]], 1)
    low, high = (bound[:, :, None, None] for bound in (center - half, center + half))  # [B, 3, 1, 1]
    columns = torch.arange(W, device=scaled.device, dtype=torch.float32)
    rows = torch.arange(H, device=scaled.device, dtype=torch.float32)[:, None]
    inside = (columns >= low[:, 0]) & (columns <= high[:, 0]) & (rows >= low[:, 1]) & (rows <= high[:, 1])
    return inside & (scaled >= low[:, 2]) & (scaled <= high[:, 2])
