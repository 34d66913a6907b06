# SPDX-License-Identifier: MIT
"""Random heads for the tests of the cascade, with a given amount of moving windows."""

from __future__ import annotations

import torch
from torch import Tensor

from poseren_ext import ops
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.models import HeadConfig, RegionEnsemble, initialize
from poseren_ext.ops import _native

NYU = SKELETONS["nyu14"]


def narrow_config(*, widths: tuple[int, int] = (24, 16), channels: int = 4) -> HeadConfig:
    return HeadConfig.pose_ren(NYU, widths=widths, channels=channels)


def random_head(config: HeadConfig | None = None, *, step: float = 0.012, seed: int = 0) -> RegionEnsemble:
    """``step`` is the standard deviation of the last layer's weights: the larger, the more windows move."""
    head = RegionEnsemble(config or narrow_config()).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(seed)
    initialize(head, fully_connected="he", generator=generator)
    head.pose_weight.normal_(0, step, generator=generator)
    for bias in (head.region_bias, head.finger_bias, head.pose_bias):
        bias.normal_(0, 0.05, generator=generator)
    return head


def head_at_rest(pose: Tensor, config: HeadConfig | None = None) -> RegionEnsemble:
    """A head that gives the pose [J, 3] for any features."""
    head = random_head(config)
    head.pose_weight.zero_()
    head.pose_bias.copy_(pose.flatten())
    return head


def scene(batch: int, config: HeadConfig, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Features [B, C, 12, 12] as after a ReLU, and initial poses [B, J, 3]."""
    generator = torch.Generator().manual_seed(seed)
    size = config.image_size // 8
    features = torch.randn(batch, config.channels, size, size, generator=generator).relu()
    return features, torch.rand(batch, config.num_joints, 3, generator=generator) * 1.6 - 0.8


def alone(features: Tensor, pose: Tensor, head: RegionEnsemble | ops.PackedHead, stages: int, *, like: int) -> Tensor:
    """The poses of one sample, computed without the others of a batch of ``like`` samples.

    The CUDA kernels sum in one order for up to 8 samples and in another for more: there the sample is repeated.
    """
    on_cpu = features.device.type == "cpu" and _native.ops.name == "poseren"
    repeats = 1 if on_cpu or like <= 8 else 9
    poses, _ = ops.cascade_refine(
        features.expand(repeats, *features.shape), pose.expand(repeats, *pose.shape), head, stages=stages
    )
    return poses[:, -1]


def rounds_inputs(dtype: str, device: str = "cpu") -> bool:
    """Whether inputs beside weights of this type are rounded: to 32639 steps, on CPUs that multiply bytes."""
    return device == "cpu" and dtype == "int8" and _native.build_info()["cpu_isa"] == "avx512vnni"
