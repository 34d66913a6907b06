# SPDX-License-Identifier: MIT
"""Fake tensors, autograd, autocast and vmap of cascade_refine."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from poseren_ext.ops._autograd import CASCADE_WEIGHTS, CascadeRefine
from poseren_ext.ops._registrations._rules import autocast_keeps_types, differentiable, vmap_folds_batch

NAME = "cascade_refine"


def register(namespace: str) -> None:
    """Registers everything for the operator of ``torch.ops.<namespace>``."""
    torch.library.register_fake(f"{namespace}::{NAME}", _fake)
    differentiable(namespace, NAME, CascadeRefine)
    autocast_keeps_types(namespace, NAME, float32=(0, 1))
    vmap_folds_batch(namespace, NAME, output_axes=(1, 0), shared=CASCADE_WEIGHTS)


def _fake(features: Tensor, pose: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    stages = rest[-1]
    return pose.new_empty((stages + 1, *pose.shape)), pose.new_empty(pose.shape[0], dtype=torch.int32)
