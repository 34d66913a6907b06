# SPDX-License-Identifier: MIT
"""The paper's own numbers, to stand beside ours."""

TABLE_1: tuple[tuple[str, float, float | None], ...] = (
    ("HandsDeep", 19.73, 9.81),
    ("Feedback", 15.97, 8.20),
    ("DeepModel", 16.90, 8.76),
    ("Mask R-CNN", 27.61, 8.25),
    ("JTSC", 16.80, 8.02),
    ("Madadi et al.", 15.60, None),
    ("Lie-X", 14.51, 7.48),
    ("REN-4x6x6", 13.39, 6.78),
    ("REN-9x6x6", 12.69, 6.32),
    ("Pose-REN", 11.81, 5.53),
)
"""System, 3D error (mm), 2D error (px) on NYU."""

TABLE_2 = {"nyu": (11.869, 11.811), "icvl": (6.932, 6.793), "msra": (8.728, 8.649)}
"""Mean 3D error (mm) without and with the hand's structure."""

MEAN_POSE_AFTER_TEN_STAGES = 17.708
"""Mean 3D error (mm) on NYU of the standard model started from the mean pose (section 4.4.4)."""
