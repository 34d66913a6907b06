# SPDX-License-Identifier: MIT
"""Pose-REN: cascaded 3D hand pose estimation from one depth image."""

__version__ = "0.1.0"
