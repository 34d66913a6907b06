# SPDX-License-Identifier: MIT
"""Small models with random weights, and frames for them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.models import HeadConfig, ModelConfig, PoseREN, initialize, save


def small_config(
    skeleton: str = "nyu14",
    *,
    channels: tuple[int, int, int] = (4, 6, 8),
    widths: tuple[int, int] = (12, 10),
    **changes: Any,
) -> ModelConfig:
    """The published architecture with narrow layers; ``changes`` replace fields of the configuration."""
    joints, sizes = SKELETONS[skeleton], {"widths": widths, "channels": channels[-1]}
    heads = {"init": HeadConfig.init_cnn(joints, **sizes), "refine": HeadConfig.pose_ren(joints, **sizes)}  # type: ignore[arg-type]
    fields = {"hand": joints.hand, "cube": 150.0, "image_size": 96, "channels": channels, **heads}
    return ModelConfig(skeleton=skeleton, **(fields | changes))


def small_model(
    config: ModelConfig | str = "nyu14", *, step: float = 0.02, spread: float = 0.0, seed: int = 1
) -> PoseREN:
    """A model in evaluation mode with random weights.

    Args:
        config: the configuration, or the name of a skeleton for that of :func:`small_config`.
        step: standard deviation of the last layers' weights; with 0.02 a stage moves the joints by some 10 mm.
        spread: the joints are spread over plus and minus this part of the crop, differently by Init-CNN and the stages.
        seed: random seed.
    """
    model = PoseREN.build(small_config(config) if isinstance(config, str) else config)
    generator = torch.Generator().manual_seed(seed)
    initialize(model, fully_connected="he", generator=generator)
    for head in (model.init.head, model.head):
        torch.nn.init.normal_(head.pose_weight, 0, step, generator=generator)
        torch.nn.init.uniform_(head.pose_bias, -spread, spread, generator=generator)
    return model.eval()


def save_small_model(path: Path, skeleton: str = "msra21") -> Path:
    """Write a model whose joints are spread, and return its path."""
    save(small_model(skeleton, spread=0.5), path)
    return path


def frames(
    batch: int, height: int = 240, width: int = 320, dtype: torch.dtype = torch.float32, seed: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """Depth [B, H, W] with holes, centres [B, 3] and cameras [B, 4]."""
    generator = torch.Generator().manual_seed(seed)
    depth = torch.randint(450, 900, (batch, height, width), generator=generator).float()
    depth[torch.rand(depth.shape, generator=generator) < 0.1] = 0
    middle = torch.tensor([width / 2, height / 2, 620.0])
    center = middle + torch.randn(batch, 3, generator=generator) * torch.tensor([40.0, 30.0, 30.0])
    camera = torch.tensor([475.0, 474.0, width / 2, height / 2]).repeat(batch, 1)
    return depth.to(dtype), center, camera
