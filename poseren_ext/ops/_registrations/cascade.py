# SPDX-License-Identifier: MIT
"""Fake, autograd, autocast and vmap of cascade_refine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poseren_ext.ops._registrations._rules import autocast_keeps_types, vmap_folds_batch

NAME = "cascade_refine"
WEIGHTS = range(4, 13)
"""Positions of the layers' weights, scales and biases."""


def register(namespace: str) -> None:
    """Registers all of it for the op of ``torch.ops.<namespace>``."""
    torch.library.register_fake(f"{namespace}::{NAME}", _fake)
    torch.library.register_autograd(f"{namespace}::{NAME}", _refuse_gradient)
    autocast_keeps_types(namespace, NAME, float32=(0, 1))
    vmap_folds_batch(namespace, NAME, output_axes=(1, 0), shared=WEIGHTS)


def _fake(features: Tensor, pose: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    stages = rest[-1]
    return pose.new_empty((stages + 1, *pose.shape)), pose.new_empty(pose.shape[0], dtype=torch.int32)


def _refuse_gradient(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError(
        "cascade_refine has no gradient: call it under torch.no_grad(), and train with the forward pass of "
        "poseren_ext.models.PoseREN"
    )
