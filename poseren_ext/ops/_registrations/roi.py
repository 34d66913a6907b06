# SPDX-License-Identifier: MIT
"""Fake tensors, autograd, autocast and vmap of roi_windows and pose_roi_pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from poseren_ext.ops._autograd import PoolFeatureGrad, PoolPoseGrad, PoseRoiPool
from poseren_ext.ops._registrations._rules import autocast_keeps_types, differentiable, vmap_folds_batch

POOL, FEATURE_GRAD, POSE_GRAD = "pose_roi_pool", "pose_roi_pool_feature_grad", "pose_roi_pool_pose_grad"


def register(namespace: str) -> None:
    """Registers everything for the operators of ``torch.ops.<namespace>``."""
    torch.library.register_fake(f"{namespace}::roi_windows", _windows_fake)
    torch.library.register_fake(f"{namespace}::{POOL}", _pool_fake)
    torch.library.register_fake(f"{namespace}::{FEATURE_GRAD}", _feature_grad_fake)
    torch.library.register_fake(f"{namespace}::{POSE_GRAD}", _pose_grad_fake)
    for name, function in {POOL: PoseRoiPool, FEATURE_GRAD: PoolFeatureGrad, POSE_GRAD: PoolPoseGrad}.items():
        differentiable(namespace, name, function)
    autocast_keeps_types(namespace, "roi_windows", float32=(0,))
    autocast_keeps_types(namespace, POOL)
    for name in ("roi_windows", POOL, FEATURE_GRAD, POSE_GRAD):
        vmap_folds_batch(namespace, name)


def _windows_fake(pose: Tensor, joints: Sequence[int], *geometry: float) -> Tensor:
    return pose.new_empty((pose.shape[0], len(joints), 4), dtype=torch.int32)


def _pool_fake(features: Tensor, pose: Tensor, joints: Sequence[int], output_size: int, *rest: float) -> Tensor:
    return features.new_empty((features.shape[0], len(joints), features.shape[1], output_size, output_size))


def _feature_grad_fake(grad: Tensor, features: Tensor, pose: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(features)


def _pose_grad_fake(grad: Tensor, features: Tensor, pose: Tensor, *rest: Any) -> Tensor:
    return pose.new_empty(pose.shape)
