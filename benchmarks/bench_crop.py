# SPDX-License-Identifier: MIT
"""depth_crop against OpenCV, PyTorch and kornia."""

import pytest

PEERS = (
    "PyTorch",
    "torch.compile",
    "kornia",
    "OpenCV",
    "OpenCV, region only",
    "OpenCV, region only, a thread a frame",
)


@pytest.mark.parametrize("contender", ["ours/float32", *(f"peer/{name}" for name in PEERS)])
def bench_depth_crop(race, contender):
    race("crop", contender)
