# SPDX-License-Identifier: MIT
"""hand_center and depth_crop: fake, autograd, autocast and vmap."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poseren_ext.ops._registrations._rules import autocast_keeps_types, overload, vmap_folds_batch


def register(namespace: str) -> None:
    """Registers what the ops of ``torch.ops.<namespace>`` lack."""
    torch.library.register_fake(f"{namespace}::hand_center", _fake_hand_center)
    autocast_keeps_types(namespace, "hand_center", float32=(2, 3))
    vmap_folds_batch(namespace, "hand_center", output_axes=(0, 0))

    torch.library.register_fake(f"{namespace}::depth_crop", _fake_depth_crop)
    torch.library.register_fake(f"{namespace}::depth_crop_backward", _fake_depth_crop_backward)
    autocast_keeps_types(namespace, "depth_crop", float32=(1, 2, 3, 4))
    for name in ("depth_crop", "depth_crop_backward"):
        vmap_folds_batch(namespace, name)

    def backward(context: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        depth, *geometry = context.saved_tensors
        invalid, invalid_value, nearest, depth_unit = context.options
        depth_grad = None
        if context.needs_input_grad[0]:
            depth_grad = overload(namespace, "depth_crop_backward")(
                grad, depth, *geometry, invalid, invalid_value, nearest, depth_unit
            ).to(depth.dtype)
        return depth_grad, *[None] * 10

    torch.library.register_autograd(f"{namespace}::depth_crop", backward, setup_context=_save_for_backward)


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    depth, center, camera, cube, transform, _size, *options, _dtype = inputs
    ctx.save_for_backward(depth, center, camera, cube, transform)
    ctx.options = options


def _fake_hand_center(depth: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    B = depth.shape[0]
    return depth.new_empty(B, 3, dtype=torch.float32), depth.new_empty(B, dtype=torch.int64)


def _fake_depth_crop(
    depth: Tensor, center: Tensor, camera: Tensor, cube: Tensor, transform: Tensor | None, size: int, *options: Any
) -> Tensor:
    return depth.new_empty(depth.shape[0], 1, size, size, dtype=options[-1])


def _fake_depth_crop_backward(grad: Tensor, depth: Tensor, *_: Any) -> Tensor:
    return depth.new_empty(depth.shape, dtype=torch.float32)
