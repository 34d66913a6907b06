# SPDX-License-Identifier: MIT
"""Narrow estimators with random weights, and frames for them: what the interchange tests run."""

import torch

from poseren_ext.geometry.skeleton import SKELETONS, Skeleton
from poseren_ext.models import Backbone, HeadConfig, InitCNN, ModelConfig, PoseREN, RegionEnsemble, initialize


def small_estimator(skeleton="nyu14", *, width=24, channels=(4, 8, 16)):
    """A narrow Pose-REN whose stages move the joints by some 10 mm: random, but not idle."""
    joints = SKELETONS[skeleton]
    sizes = {"widths": (width, width), "channels": channels[-1]}
    model = PoseREN(
        InitCNN(Backbone(channels), RegionEnsemble(HeadConfig.init_cnn(joints, **sizes))),
        Backbone(channels),
        RegionEnsemble(HeadConfig.pose_ren(joints, **sizes)),
        joints,
    )
    generator = torch.Generator().manual_seed(11)
    initialize(model, fully_connected="he", generator=generator)
    for head in (model.init.head, model.head):
        torch.nn.init.normal_(head.pose_weight, 0, 0.015, generator=generator)
    return model.eval()


def frames(batch, height=240, width=320, dtype=torch.float32, seed=0):
    """Depth [B, H, W] with holes, centres [B, 3] and cameras [B, 4]."""
    generator = torch.Generator().manual_seed(seed)
    depth = torch.randint(450, 900, (batch, height, width), generator=generator).float()
    depth[torch.rand(depth.shape, generator=generator) < 0.1] = 0
    middle = torch.tensor([width / 2, height / 2, 620.0])
    center = middle + torch.randn(batch, 3, generator=generator) * torch.tensor([40.0, 30.0, 30.0])
    camera = torch.tensor([475.0, 474.0, width / 2, height / 2]).repeat(batch, 1)
    return depth.to(dtype), center, camera


def narrow_config(skeleton: Skeleton = SKELETONS["nyu14"], **changes: object) -> ModelConfig:
    shape = {"widths": (12, 10), "channels": 8}
    heads = {"init": HeadConfig.init_cnn(skeleton, **shape), "refine": HeadConfig.pose_ren(skeleton, **shape)}
    arguments = {
        "skeleton": skeleton.name,
        "hand": "right",
        "cube": 150.0,
        "image_size": 96,
        "channels": (4, 6, 8),
        **heads,
    }
    return ModelConfig(**(arguments | changes))


def narrow_model(**changes: object) -> PoseREN:
    """A small model whose poses spread over the crop."""
    model = PoseREN.build(narrow_config(**changes))
    initialize(model, fully_connected="he")
    with torch.no_grad():
        for head in (model.init.head, model.head):
            head.pose_weight.normal_(0, 0.02)
    return model
