# SPDX-License-Identifier: MIT
"""Published label and prediction files in the folder named by POSEREN_TEST_DATA; never copied."""

import os
from pathlib import Path

import pytest

_ROOT = os.environ.get("POSEREN_TEST_DATA")

PUBLISHED = Path(_ROOT) if _ROOT else Path("POSEREN_TEST_DATA-is-not-set")

needs_published_data = pytest.mark.skipif(
    not _ROOT, reason="POSEREN_TEST_DATA is not set: the published label and prediction files were not checked"
)

SKELETON_OF = {"nyu": "nyu14", "icvl": "icvl16"}

# Mean 3D error (mm) of each published file, and its mean 2D error (px) where the paper's table 1 prints one.
ERROR_3D = {
    ("nyu", "DeepPrior"): 20.7499,
    ("nyu", "HandsDeep"): 19.7257,
    ("nyu", "DeepModel"): 17.0359,
    ("nyu", "Feedback"): 15.9727,
    ("nyu", "Init-CNN"): 14.5879,
    ("nyu", "Lie-X"): 14.5074,
    ("nyu", "REN-4x6x6"): 13.3931,
    ("nyu", "REN-9x6x6"): 12.6942,
    ("nyu", "Pose-REN"): 11.8109,
    ("icvl", "LRF"): 12.5776,
    ("icvl", "DeepModel"): 11.5611,
    ("icvl", "Init-CNN"): 8.3584,
    ("icvl", "REN-4x6x6"): 7.6280,
    ("icvl", "REN-9x6x6"): 7.3052,
    ("icvl", "Pose-REN"): 6.7912,
}
ERROR_2D = {
    ("nyu", "HandsDeep"): 9.81,
    ("nyu", "Feedback"): 8.20,
    ("nyu", "DeepModel"): 8.76,
    ("nyu", "Lie-X"): 7.48,
    ("nyu", "REN-4x6x6"): 6.78,
    ("nyu", "REN-9x6x6"): 6.32,
    ("nyu", "Pose-REN"): 5.53,
}
