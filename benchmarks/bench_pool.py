# SPDX-License-Identifier: MIT
"""pose_roi_pool against PyTorch and torchvision."""

import pytest

PEERS = ("PyTorch indexing", "PyTorch indexing, channels_last", "PyTorch gather", "torch.compile", "torchvision")
CONTENDERS = ("ours/float32", *(f"peer/{name}" for name in PEERS))


@pytest.mark.parametrize("contender", CONTENDERS)
def bench_pose_roi_pool_forward(race, contender):
    race("pool", contender)


@pytest.mark.parametrize("contender", CONTENDERS)
def bench_pose_roi_pool_forward_backward(race, contender):
    race("pool", contender, number=1)
