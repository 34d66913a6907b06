# SPDX-License-Identifier: MIT
"""The networks in plain PyTorch with our weights; every stage is computed in full."""

from __future__ import annotations

import copy
from collections.abc import Callable
from importlib import import_module
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.rows import CannotRun
from poseren_ext.models import STRIDE, HeadConfig, PoseREN, RegionEnsemble


def gather_regions(features: Tensor, pose: Tensor, config: HeadConfig) -> Tensor:
    """Windows [B, M, C, P, P] around the guided joints of finite poses, in one gather.

    Windows of the published size have P x P cells and begin on the map; at most one row and column lies outside.
    """
    B, C, _, W = features.shape
    P = config.cells
    cells = window_cells(pose, config, W + 1).reshape(B, 1, -1)
    padded = F.pad(features, (0, 1, 0, 1)).flatten(2)
    return padded.gather(2, cells.expand(B, C, -1)).reshape(B, C, -1, P, P).movedim(2, 1)


def index_regions(features: Tensor, pose: Tensor, config: HeadConfig) -> Tensor:
    """As :func:`gather_regions`, by indexing a view of all windows of the map."""
    P = config.cells
    x, y = window_starts(pose, config).unbind(-1)  # [B, M]
    every = F.pad(features, (0, 1, 0, 1)).unfold(2, P, 1).unfold(3, P, 1).permute(0, 2, 3, 1, 4, 5)
    sample = torch.arange(len(features), device=features.device)[:, None]
    return every[sample, y, x]


def torchvision_regions(config: HeadConfig) -> Callable[[Tensor, Tensor], Tensor] | CannotRun:
    """As :func:`gather_regions`, by torchvision's roi_pool; or why it cannot run."""
    try:
        roi_pool = import_module("torchvision.ops").roi_pool
    except (ImportError, RuntimeError) as error:
        return CannotRun(f"torchvision does not load: {error}")

    def regions(features: Tensor, pose: Tensor) -> Tensor:
        M = len(config.joints)
        low = (pose[:, list(config.joints), :2] + 1) * (config.image_size / 2) - config.roi_size / 2
        low = low.clamp(0, config.image_size - 1 - config.roi_size).reshape(-1, 2)
        sample = torch.arange(len(pose), device=pose.device).repeat_interleave(M)[:, None]
        boxes = torch.cat([sample.to(low.dtype), low, low + config.roi_size], 1)
        pooled: Tensor = roi_pool(features, boxes, config.cells, 1 / STRIDE)
        return pooled.reshape(-1, M, *pooled.shape[1:])

    return regions


def window_starts(pose: Tensor, config: HeadConfig) -> Tensor:
    """First column and row of each guided joint's window: int64 [B, M, 2]."""
    low = (pose[:, list(config.joints), :2] + 1) * (config.image_size / 2) - config.roi_size / 2
    low = low.clamp(0, config.image_size - 1 - config.roi_size)
    return (low / STRIDE + 0.5).floor().long()


def window_cells(pose: Tensor, config: HeadConfig, width: int) -> Tensor:
    """Flat indices of the cells of each window in a map with `width` columns: int64 [B, M, P, P]."""
    x, y = window_starts(pose, config).unbind(-1)
    steps = torch.arange(config.cells, device=pose.device)
    return (y[..., None, None] + steps[:, None]) * width + x[..., None, None] + steps


class PlainHead(nn.Module):
    """A head with one linear layer per group: at batch 1 its speed is limited by reading the weights.

    Args:
        head: the head whose weights it shares.
    """

    def __init__(self, head: RegionEnsemble) -> None:
        super().__init__()
        self.config = head.config
        for layer in ("region", "finger"):
            groups = zip(getattr(head, f"{layer}_weight"), getattr(head, f"{layer}_bias"), strict=True)
            self.register_module(layer, nn.ModuleList(_linear(weight, bias) for weight, bias in groups))
        self.pose = _linear(head.pose_weight, head.pose_bias)

    def forward(self, features: Tensor, pose: Tensor | None = None) -> Tensor:
        """The pose [B, J, 3]."""
        config = self.config
        if pose is None:
            regions = [features[:, :, y : y + config.cells, x : x + config.cells].flatten(1) for y, x in config.grid]
        else:
            regions = list(gather_regions(features, pose, config).flatten(2).unbind(1))
        region_hidden = [F.relu(layer(region)) for layer, region in zip(self._layers("region"), regions, strict=True)]
        fingers = [
            F.relu(layer(torch.cat([region_hidden[m] for m in members], 1)))
            for layer, members in zip(self._layers("finger"), config.tree, strict=True)
        ]
        joints: Tensor = self.pose(torch.cat(fingers, 1)).float()  # float32, for the windows
        return joints.reshape(-1, config.num_joints, 3)

    def _layers(self, name: str) -> Any:
        return getattr(self, name)


class PlainCascade(nn.Module):
    """features [B, C, H, W], pose [B, J, 3] -> the poses of all stages [T+1, B, J, 3]."""

    def __init__(self, head: RegionEnsemble, stages: int) -> None:
        super().__init__()
        self.head = PlainHead(head)
        self.stages = stages

    def forward(self, features: Tensor, pose: Tensor) -> Tensor:
        """The poses, the initial one first."""
        poses = [pose]
        for _ in range(self.stages):
            poses.append(self.head(features, poses[-1]))
        return torch.stack(poses)


class PlainEstimator(nn.Module):
    """crop [B, 1, S, S] -> the poses of all stages [T+1, B, J, 3]."""

    def __init__(self, model: PoseREN, stages: int) -> None:
        super().__init__()
        self.init_backbone = model.init.backbone
        self.init_head = PlainHead(model.init.head)
        self.backbone = model.backbone
        self.cascade = PlainCascade(model.head, stages)

    def use_channels_last(self) -> None:
        """Convert copies of the backbones to channels_last, the fastest layout for convolutions on a CPU."""
        for name in ("init_backbone", "backbone"):
            setattr(self, name, copy.deepcopy(getattr(self, name)).to(memory_format=torch.channels_last))

    def forward(self, crop: Tensor) -> Tensor:
        """The poses, Init-CNN's first."""
        poses: Tensor = self.cascade(self.backbone(crop), self.init_head(self.init_backbone(crop)))
        return poses


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    """A layer that shares weight [N, K] and bias [N]."""
    layer = nn.Linear(1, 1, device="meta")
    layer.weight = nn.Parameter(weight.detach(), requires_grad=False)
    layer.bias = nn.Parameter(bias.detach(), requires_grad=False)
    return layer
