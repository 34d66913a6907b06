# SPDX-License-Identifier: MIT
"""Affine transforms of the crop: poses moved by them, and the rotated views of test-time augmentation."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def turned_views(count: int, *, mirrored: bool = False, device: torch.device | str | None = None) -> Tensor:
    """Transforms of the crop [K, 2, 3]: ``count`` rotations evenly over the full circle, the first by 0.

    Args:
        count: K.
        mirrored: mirror left to right before the rotation, so that one hand becomes the other.
        device: where they are wanted.
    """
    views = torch.zeros(count, 2, 3, dtype=torch.float32)
    for k in range(count):
        angle = 2 * math.pi * k / count
        c, s = round(math.cos(angle), 12), round(math.sin(angle), 12)  # a quarter is exact
        views[k, :, :2] = torch.tensor([[c, -s], [s, c]])
    if mirrored:
        views[:, :, 0] *= -1
    return views.to(device)


def mean_of_views(poses: Tensor, views: Tensor) -> Tensor:
    """The mean pose in the crop as it is.

    Args:
        poses: normalised [S, K * B, J, 3] of S stages, seen through view 0 for B samples, then through view 1, ...
        views: [K, 2, 3].

    Returns:
        [S, B, J, 3].
    """
    stages, K = poses.shape[0], len(views)
    rows = poses.view(stages, K, -1, 3).transpose(0, 1).flatten(1, 2)  # [K, S * B * J, 3]
    return restore_pose(rows, views).mean(0).view(stages, -1, *poses.shape[2:])


def move_pose(pose: Tensor, transform: Tensor) -> Tensor:
    """Normalised joints where the augmented crop shows them.

    Args:
        pose: [B, J, 3], normalised.
        transform: [B, 2, 3].

    Returns:
        Tensor: [B, J, 3]: x and y moved by the transform; depth stays.

    Raises:
        ValueError: The shapes do not match.
    """
    linear, shift = _parts(pose, transform)
    return torch.cat([pose[..., :2] @ linear.mT + shift, pose[..., 2:]], -1)


def restore_pose(pose: Tensor, transform: Tensor) -> Tensor:
    """The inverse of :func:`move_pose`: what was predicted in augmented crops, in the frame's own crop.

    Raises:
        ValueError: The shapes do not match.
    """
    linear, shift = _parts(pose, transform)
    (a, b), (c, d) = (row.unbind(-1) for row in linear.unbind(-2))
    inverse = torch.stack([d, -b, -c, a], -1).view(linear.shape) / (a * d - b * c)[:, None, None]
    return torch.cat([(pose[..., :2] - shift) @ inverse.mT, pose[..., 2:]], -1)


def _parts(pose: Tensor, transform: Tensor) -> tuple[Tensor, Tensor]:
    """Linear part [B, 2, 2] and shift [B, 1, 2] of a transform, in the pose's type."""
    if pose.dim() != 3 or pose.shape[-1] != 3 or transform.shape != (pose.shape[0], 2, 3):
        raise ValueError(
            f"pose has shape {tuple(pose.shape)} and transform {tuple(transform.shape)}; "
            "expected [B, J, 3] and [B, 2, 3]"
        )
    transform = transform.to(pose.dtype)
    return transform[..., :2], transform[:, None, :, 2]
