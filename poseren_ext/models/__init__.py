# SPDX-License-Identifier: MIT
"""Pose-REN, its Init-CNN, and the paper's ablations as configurations of the same classes."""

from poseren_ext.models.config import STRIDE, ErrorHeadConfig, HeadConfig, ModelConfig
from poseren_ext.models.error_head import ErrorHead
from poseren_ext.models.files import BUNDLED, Precision, load, load_model, save
from poseren_ext.models.network import Backbone, InitCNN, PoseREN, RegionEnsemble, initialize
from poseren_ext.models.packed import PackedPoseREN
from poseren_ext.models.quantization import round_to_bytes, round_to_nibbles

__all__ = [
    "BUNDLED",
    "STRIDE",
    "Backbone",
    "ErrorHead",
    "ErrorHeadConfig",
    "HeadConfig",
    "InitCNN",
    "ModelConfig",
    "PackedPoseREN",
    "PoseREN",
    "Precision",
    "RegionEnsemble",
    "initialize",
    "load",
    "load_model",
    "round_to_bytes",
    "round_to_nibbles",
    "save",
]
