# SPDX-License-Identifier: MIT
"""The network: Pose-REN, its Init-CNN, and the paper's ablations as configurations of the same few classes."""

from poseren_ext.models.config import STRIDE, HeadConfig, ModelConfig
from poseren_ext.models.files import load, save
from poseren_ext.models.network import Backbone, InitCNN, PoseREN, RegionEnsemble, initialize
from poseren_ext.models.packed import PackedPoseREN
from poseren_ext.models.rounding import round_to_bytes

__all__ = [
    "STRIDE",
    "Backbone",
    "HeadConfig",
    "InitCNN",
    "ModelConfig",
    "PackedPoseREN",
    "PoseREN",
    "RegionEnsemble",
    "initialize",
    "load",
    "round_to_bytes",
    "save",
]
