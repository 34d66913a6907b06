# SPDX-License-Identifier: MIT
"""Fake, autograd, autocast and vmap of roi_windows and pose_roi_pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from poseren_ext.ops._registrations._rules import (
    autocast_keeps_types,
    below_autograd,
    differentiable,
    overload,
    recorded_if_wanted,
    vmap_folds_batch,
)

POOL, FEATURE_GRAD, POSE_GRAD = "pose_roi_pool", "pose_roi_pool_feature_grad", "pose_roi_pool_pose_grad"


def register(namespace: str) -> None:
    """Registers all of it for the ops of ``torch.ops.<namespace>``."""
    torch.library.register_fake(f"{namespace}::roi_windows", _windows_fake)
    torch.library.register_fake(f"{namespace}::{POOL}", _pool_fake)
    torch.library.register_fake(f"{namespace}::{FEATURE_GRAD}", _feature_grad_fake)
    torch.library.register_fake(f"{namespace}::{POSE_GRAD}", _pose_grad_fake)
    differentiable(namespace, POOL, _pool_function(namespace), tensors=2)
    for name in (FEATURE_GRAD, POSE_GRAD):
        torch.library.register_autograd(f"{namespace}::{name}", _refuse_second_gradient)
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


def _pool_function(namespace: str) -> type[torch.autograd.Function]:
    pool, feature_grad_op, pose_grad_op = (overload(namespace, name) for name in (POOL, FEATURE_GRAD, POSE_GRAD))

    class PoseRoiPool(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, keyset: Any, features: Tensor, pose: Tensor, settings: tuple[Any, ...]) -> Any:
            ctx.save_for_backward(features, pose)
            ctx.settings = settings
            return below_autograd(pool, keyset, features, pose, *settings)

        @staticmethod
        def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # type: ignore[override]
            features, pose = ctx.saved_tensors
            _, with_features, with_pose, _ = ctx.needs_input_grad
            feature_grad = pose_grad = None
            if with_features:
                feature_grad = recorded_if_wanted(feature_grad_op, grad, features, pose, *ctx.settings)
            if with_pose and ctx.settings[-2]:
                *geometry, _align, sampling_ratio = ctx.settings
                pose_grad = recorded_if_wanted(pose_grad_op, grad, features, pose, *geometry, sampling_ratio)
            return None, feature_grad, pose_grad, None

    return PoseRoiPool


def _refuse_second_gradient(ctx: Any, grad: Tensor) -> None:
    raise RuntimeError("pose_roi_pool is differentiable once: it has no gradient of its gradient")
