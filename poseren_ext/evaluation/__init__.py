# SPDX-License-Identifier: MIT
"""Metrics, methods to compare, and labelled frames."""

from poseren_ext.evaluation.metrics import (
    Evaluation,
    MeanError2D,
    MeanError3D,
    PerJointError,
    SuccessAUC,
    SuccessRate,
    evaluate,
    joint_errors,
)

__all__ = [
    "Evaluation",
    "MeanError2D",
    "MeanError3D",
    "PerJointError",
    "SuccessAUC",
    "SuccessRate",
    "evaluate",
    "joint_errors",
]
