# SPDX-License-Identifier: MIT
"""Lifting of 2D keypoints to 3D joints with the depth image, as the paper does for Mask R-CNN (section 4.3)."""

from __future__ import annotations

import torch
from torch import Tensor

from poseren_ext.geometry.camera import CameraLike, intrinsics


def lift_keypoints(
    keypoints: Tensor,
    depth: Tensor,
    center: Tensor,
    camera: CameraLike,
    *,
    cube: float = 150.0,
    depth_unit: float = 1.0,
) -> Tensor:
    """Depth of 2D keypoints: the mean over the valid pixels of the 9-neighbourhood, within the hand's cube.

    "The inferred depth values are constrained within the 3D cube of hand and valid depth values from 9-neighbours are
    averaged to get the final depth coordinate" (section 4.3). A pixel is valid when it lies in the image and its point
    lies in the cube: x, y and depth differ from the centre by at most `cube`. A keypoint without a valid neighbour
    takes the nearest valid depth on the rings of up to `_REACH` pixels around it, or else the depth of the centre.

    Args:
        keypoints: u, v in pixels [B, J, 2], or more coordinates of which the first two count; may lie between pixels.
        depth: frames [B, H, W] as stored; 0, NaN and infinity mean no depth.
        center: u, v, d of the cubes [B, 3].
        camera: intrinsics of the frames.
        cube: half edge of the cube, mm.
        depth_unit: mm per stored unit.

    Returns:
        Tensor: uvd [B, J, 3], float32: the given u and v, and depth in mm. A keypoint that is not finite is NaN.

    Raises:
        ValueError: The shapes do not match.
    """
    if keypoints.dim() != 3 or keypoints.shape[-1] < 2:
        raise ValueError(f"keypoints have shape {list(keypoints.shape)}; expected [B, J, 2]")
    if depth.dim() != 3 or len(depth) != len(keypoints) or center.shape != (len(keypoints), 3):
        raise ValueError(
            f"keypoints {list(keypoints.shape)}, depth {list(depth.shape)}, center {list(center.shape)}; expected "
            "[B, J, 2], [B, H, W] and [B, 3] of the same B"
        )
    millimetres = depth.to(torch.float32) * depth_unit
    valid = _in_cube(millimetres, center.float(), camera, cube)
    uv = keypoints[..., :2].float()
    d = center[:, 2:].float().expand(-1, uv.shape[1]).clone()
    found = torch.zeros_like(d, dtype=torch.bool)
    for ring in range(1, _REACH + 1):  # the first ring is the paper's 9-neighbourhood
        mean, count = _mean_around(millimetres, valid, uv, ring)
        new = (count > 0) & ~found
        d = torch.where(new, mean, d)
        found |= new
    d = d.masked_fill(~torch.isfinite(uv).all(-1), torch.nan)
    return torch.cat([uv, d[..., None]], -1)


_REACH = 4


def _in_cube(depth: Tensor, center: Tensor, camera: CameraLike, cube: float) -> Tensor:
    """Which pixels [B, H, W] show a point inside the cube around the centre."""
    fx, fy, cx, cy = (value.reshape(-1, 1, 1) for value in intrinsics(camera, device=depth.device).unbind(-1))
    rows = torch.arange(depth.shape[1], device=depth.device)[None, :, None]
    columns = torch.arange(depth.shape[2], device=depth.device)[None, None, :]
    u, v, z = (value.reshape(-1, 1, 1) for value in center.unbind(-1))
    inside = (depth - z).abs() <= cube
    inside &= ((columns - cx) * depth / fx - (u - cx) * z / fx).abs() <= cube
    inside &= ((rows - cy) * depth / fy - (v - cy) * z / fy).abs() <= cube
    return inside & (depth > 0) & torch.isfinite(depth)


def _mean_around(depth: Tensor, valid: Tensor, uv: Tensor, ring: int) -> tuple[Tensor, Tensor]:
    """Mean depth and number of the valid pixels [B, J] at most `ring` rows and columns from the nearest pixel."""
    batch, height, width = depth.shape
    offsets = torch.arange(-ring, ring + 1, device=depth.device)
    # No valid pixel is more than a ring outside the image; clamping keeps the index arithmetic in range.
    nearest = torch.nan_to_num(uv, nan=-1e6).clamp(-1e6, 1e6).round().long()
    columns = nearest[..., 0, None, None] + offsets[None, None, None, :]
    rows = nearest[..., 1, None, None] + offsets[None, None, :, None]
    inside = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    frame = torch.arange(batch, device=depth.device)[:, None, None, None]
    at = (frame, rows.clamp(0, height - 1), columns.clamp(0, width - 1))
    seen = valid[at] & inside
    count = seen.flatten(2).sum(-1)
    total = torch.where(seen, depth[at], 0.0).flatten(2).sum(-1)
    return total / count.clamp(min=1), count
