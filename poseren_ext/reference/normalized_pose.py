# SPDX-License-Identifier: MIT
"""Joints in the coordinates of the cube around the hand, in which the network works."""

from __future__ import annotations

import torch
from torch import Tensor

from poseren_ext.geometry.camera import CameraLike
from poseren_ext.reference._inputs import camera_rows, companion, cube_rows


def normalize_pose(uvd: Tensor, center: Tensor, camera: CameraLike, *, cube: float | Tensor = 150.0) -> Tensor:
    """`poseren_ext.ops.normalize_pose` in PyTorch: the same arguments (tensors only), results and errors."""
    uvd, center, scale, batched = _frames(uvd, "uvd", center, camera, cube)
    z = center[..., 2:]
    offset = uvd - center
    pose = torch.cat([offset[..., :2] * z / scale[..., :2], offset[..., 2:] / scale[..., 2:]], -1)
    return pose if batched else pose[0]


def denormalize_pose(pose: Tensor, center: Tensor, camera: CameraLike, *, cube: float | Tensor = 150.0) -> Tensor:
    """`poseren_ext.ops.denormalize_pose` in PyTorch: the same arguments (tensors only), results and errors."""
    pose, center, scale, batched = _frames(pose, "pose", center, camera, cube)
    z = center[..., 2:]
    offset = torch.cat([pose[..., :2] * scale[..., :2] / z, pose[..., 2:] * scale[..., 2:]], -1)
    uvd = offset + center
    return uvd if batched else uvd[0]


def _frames(
    joints: Tensor, name: str, center: Tensor, camera: CameraLike, cube: float | Tensor
) -> tuple[Tensor, Tensor, Tensor, bool]:
    """Joints [B, J, 3]; centres [B, 1, 3], NaN if invalid; scales (fx*c_x, fy*c_y, c_z) [B, 1, 3]; batched."""
    if not isinstance(joints, Tensor) or not joints.is_floating_point():
        kind = joints.dtype if isinstance(joints, Tensor) else type(joints).__name__
        raise TypeError(f"{name} is {kind}; expected a floating-point tensor [B, J, 3]")
    if joints.dim() not in (2, 3) or joints.shape[-1] != 3:
        raise ValueError(f"{name} has shape {tuple(joints.shape)}; expected [B, J, 3] or [J, 3]")
    batched = joints.dim() == 3
    joints = joints.to(torch.promote_types(joints.dtype, torch.float32))
    joints = joints if batched else joints[None]
    B = joints.shape[0]
    center = companion(center, "center", (3,), B, batched).to(joints.dtype)
    somewhere = center.isfinite().all(1, keepdim=True) & (center[:, 2:] > 0)
    center = torch.where(somewhere, center, torch.nan)
    focal = camera_rows(camera, B, joints.device)[:, :2].to(joints.dtype)
    edges = cube_rows(cube, B, joints.device).to(joints.dtype)
    scale = torch.cat([focal * edges[:, :2], edges[:, 2:]], 1)
    return joints, center[:, None], scale[:, None], batched
