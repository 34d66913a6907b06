# SPDX-License-Identifier: MIT
"""What each phase trains, as modules from crops to poses."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call

from poseren_ext.models import Backbone, InitCNN, RegionEnsemble
from poseren_ext.training.config import Precision


def features_of(backbone: Backbone, *, compiled: bool) -> Callable[[Tensor], Tensor]:
    """The backbone as a function, on the same weights; compiled, its ReLUs and poolings run in few kernels."""
    return torch.compile(backbone.forward, dynamic=False) if compiled else backbone


class InitPose(nn.Module):
    """The first phase's: Init-CNN."""

    def __init__(self, init: InitCNN, *, compiled: bool = False) -> None:
        super().__init__()
        self.init = init
        self._features = features_of(init.backbone, compiled=compiled)

    def forward(self, crop: Tensor, initial: None) -> list[Tensor]:
        """One pose [B, J, 3] of crops [B, 1, S, S]."""
        return [self.init.head(self._features(crop))]


class StagePoses(nn.Module):
    """The second phase's: the stages, each on the detached pose of the one before (paper, section 3.4)."""

    def __init__(self, backbone: Backbone, head: RegionEnsemble, stages: int, *, compiled: bool = False) -> None:
        super().__init__()
        self.backbone, self.head, self.stages = backbone, head, stages
        self._features = features_of(backbone, compiled=compiled)

    def forward(self, crop: Tensor, initial: Tensor) -> list[Tensor]:
        """A pose [B, J, 3] for each stage, of crops [B, 1, S, S] and a pose to start from."""
        features = self._features(crop)
        # One copy of the weights in the products' type for all stages, whose gradients meet in it: autocast would make
        # one a stage, and the head's weights are most of the network.
        weights = {name: weight.to(features.dtype) for name, weight in self.head.named_parameters()}
        poses = [initial]
        for _ in range(self.stages):
            poses.append(functional_call(self.head, weights, (features, poses[-1].detach())))
        return poses[1:]


@contextmanager
def tensor_cores(precision: Precision) -> Iterator[None]:
    """Lets float32 products on a GPU round their factors to tf32, or not ("float32"); as before afterwards.

    PyTorch's own default rounds those of convolutions and not those of matrices.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision != "float32"
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Forward passes in bfloat16 where the precision says so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
