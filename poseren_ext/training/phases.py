# SPDX-License-Identifier: MIT
"""The modules that each phase trains, from crops to poses, and the loss."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from poseren_ext.models import Backbone, InitCNN, RegionEnsemble, initialize
from poseren_ext.training.config import Precision


def smooth_l1(pose: Tensor, target: Tensor, loss: Literal["mean", "sum"], beta: float) -> Tensor:
    """Smooth L1 loss [] of normalised poses [B, J, 3].

    Args:
        pose: predicted.
        target: the labels.
        loss: "mean" over all numbers, or "sum" over the 3J coordinates, divided by B, as Caffe's SmoothL1Loss layer.
        beta: distance at which the loss changes from quadratic to linear: 1 / sigma^2 of Caffe's layer.
    """
    total = F.smooth_l1_loss(pose, target, beta=beta, reduction=loss)
    return total / len(pose) if loss == "sum" else total


def redraw(head: RegionEnsemble, fully_connected: Literal["gaussian", "he"], generator: torch.Generator) -> None:
    """Initialises the weights of a head on the CPU, so that they are the same on every device."""
    fresh = RegionEnsemble(head.config)
    initialize(fresh, fully_connected=fully_connected, generator=generator)
    head.load_state_dict(fresh.state_dict())


def features_of(backbone: Backbone, *, compiled: bool) -> Callable[[Tensor], Tensor]:
    """The backbone as a function with the same weights; if compiled, its ReLUs and poolings are fused."""
    return torch.compile(backbone.forward, dynamic=False) if compiled else backbone


class InitStage(nn.Module):
    """Init-CNN, which the first phase trains."""

    def __init__(self, init: InitCNN, *, compiled: bool = False) -> None:
        super().__init__()
        self.init = init
        self._features = features_of(init.backbone, compiled=compiled)

    def forward(self, crop: Tensor, initial: None) -> list[Tensor]:
        """One pose [B, J, 3] of crops [B, 1, S, S]."""
        return [self.init.head(self._features(crop))]


class StagePoses(nn.Module):
    """Stages of the refining network, each on the detached pose of the previous stage."""

    def __init__(self, backbone: Backbone, head: RegionEnsemble, stages: int, *, compiled: bool = False) -> None:
        super().__init__()
        self.backbone, self.head, self.stages = backbone, head, stages
        self._features = features_of(backbone, compiled=compiled)

    def forward(self, crop: Tensor, initial: Tensor) -> list[Tensor]:
        """A pose [B, J, 3] for each stage, from crops [B, 1, S, S] and an initial pose."""
        features = self._features(crop)
        # Cast the weights of the head (most of the network) once for all stages; autocast would cast them per stage.
        weights = {name: weight.to(features.dtype) for name, weight in self.head.named_parameters()}
        poses = [initial]
        for _ in range(self.stages):
            poses.append(functional_call(self.head, weights, (features, poses[-1].detach())))
        return poses[1:]


@contextmanager
def tensor_cores(precision: Precision) -> Iterator[None]:
    """Allows tf32 in float32 products on a GPU unless the precision is "float32"; restores the settings afterwards.

    By default PyTorch allows tf32 in convolutions but not in matrix products.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision != "float32"
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Autocast to bfloat16 if the precision is "bf16"."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
