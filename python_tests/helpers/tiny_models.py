# SPDX-License-Identifier: MIT
"""Models small enough for a test, with poses that differ between joints and between Init-CNN and the stages."""

from pathlib import Path

import torch

from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.models import PoseREN, initialize, save
from poseren_ext.models.config import HeadConfig, ModelConfig


def tiny_model(skeleton: str = "msra21", seed: int = 0) -> PoseREN:
    joints = SKELETONS[skeleton]
    init = HeadConfig.init_cnn(joints, widths=(8, 8), channels=8)
    refine = HeadConfig.pose_ren(joints, widths=(8, 8), channels=8)
    model = PoseREN.build(ModelConfig(skeleton, "right", 150.0, 96, (4, 4, 8), init, refine))
    torch.manual_seed(seed)
    initialize(model)
    for name, parameter in model.named_parameters():
        if name.endswith("pose_bias"):
            torch.nn.init.uniform_(parameter, -0.5, 0.5)
    return model.eval()


def save_tiny_model(path: Path, skeleton: str = "msra21") -> Path:
    save(tiny_model(skeleton), path)
    return path
