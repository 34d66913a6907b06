# SPDX-License-Identifier: MIT
"""Fake, autograd, autocast and vmap of roi_windows and pose_roi_pool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from poseren_ext._registrations._rules import autocast_keeps_types, overload, vmap_folds_batch

POOL, FEATURE_GRAD, POSE_GRAD = "pose_roi_pool", "pose_roi_pool_feature_grad", "pose_roi_pool_pose_grad"


def register(namespace: str) -> None:
    """Registers all of it for the ops of ``torch.ops.<namespace>``."""
    torch.library.register_fake(f"{namespace}::roi_windows", _windows_fake)
    torch.library.register_fake(f"{namespace}::{POOL}", _pool_fake)
    torch.library.register_fake(f"{namespace}::{FEATURE_GRAD}", _feature_grad_fake)
    torch.library.register_fake(f"{namespace}::{POSE_GRAD}", _pose_grad_fake)
    _register_pool_autograd(namespace)
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


def _register_pool_autograd(namespace: str) -> None:
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        features, pose, *ctx.settings = inputs
        ctx.save_for_backward(features, pose)

    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        features, pose = ctx.saved_tensors
        *geometry, align, sampling_ratio = ctx.settings
        feature_grad = pose_grad = None
        if ctx.needs_input_grad[0]:
            feature_grad = overload(namespace, FEATURE_GRAD)(grad, features, pose, *ctx.settings)
        if ctx.needs_input_grad[1] and align:
            pose_grad = overload(namespace, POSE_GRAD)(grad, features, pose, *geometry, sampling_ratio)
        return feature_grad, pose_grad, *[None] * len(ctx.settings)

    torch.library.register_autograd(f"{namespace}::{POOL}", backward, setup_context=setup_context)


def _refuse_second_gradient(ctx: Any, grad: Tensor) -> None:
    raise RuntimeError("pose_roi_pool is differentiable once: it has no gradient of its gradient")
