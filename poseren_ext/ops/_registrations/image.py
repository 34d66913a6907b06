# SPDX-License-Identifier: MIT
"""Fake tensors, autograd, autocast and vmap of hand_center and depth_crop."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poseren_ext.ops._autograd import DepthCrop, DepthCropBackward, HandCenter
from poseren_ext.ops._registrations._rules import autocast_keeps_types, differentiable, vmap_folds_batch


def register(namespace: str) -> None:
    """Registers everything for the operators of ``torch.ops.<namespace>``."""
    torch.library.register_fake(f"{namespace}::hand_center", _fake_hand_center)
    torch.library.register_fake(f"{namespace}::depth_crop", _fake_depth_crop)
    torch.library.register_fake(f"{namespace}::depth_crop_backward", _fake_depth_crop_backward)
    functions = {"hand_center": HandCenter, "depth_crop": DepthCrop, "depth_crop_backward": DepthCropBackward}
    for name, function in functions.items():
        differentiable(namespace, name, function)
    autocast_keeps_types(namespace, "hand_center", float32=(2, 3))
    autocast_keeps_types(namespace, "depth_crop", float32=(1, 2, 3, 4))
    vmap_folds_batch(namespace, "hand_center", output_axes=(0, 0))
    vmap_folds_batch(namespace, "depth_crop")
    vmap_folds_batch(namespace, "depth_crop_backward")


def _fake_hand_center(depth: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    B = depth.shape[0]
    return depth.new_empty(B, 3, dtype=torch.float32), depth.new_empty(B, dtype=torch.int64)


def _fake_depth_crop(
    depth: Tensor, center: Tensor, camera: Tensor, cube: Tensor, transform: Tensor | None, size: int, *options: Any
) -> Tensor:
    return depth.new_empty(depth.shape[0], 1, size, size, dtype=options[-1])


def _fake_depth_crop_backward(grad: Tensor, depth: Tensor, *_: Any) -> Tensor:
    return depth.new_empty(depth.shape, dtype=torch.float32)
