# SPDX-License-Identifier: MIT
"""Pose-REN: cascaded 3D hand pose estimation from one depth image."""

from poseren_ext import ops
from poseren_ext.camera import CAMERAS, Camera, uvd_to_xyz, xyz_to_uvd
from poseren_ext.models import HeadConfig, ModelConfig, PoseREN, load, save
from poseren_ext.refine import Estimator, HandPose, load_model, refine
from poseren_ext.skeleton import SKELETONS, Skeleton

__all__ = [
    "CAMERAS",
    "SKELETONS",
    "Camera",
    "Estimator",
    "HandPose",
    "HeadConfig",
    "ModelConfig",
    "PoseREN",
    "Skeleton",
    "load",
    "load_model",
    "ops",
    "refine",
    "save",
    "uvd_to_xyz",
    "xyz_to_uvd",
]

__version__ = "0.1.0"
