# SPDX-License-Identifier: MIT
"""A training step against PyTorch with augmentation on the host."""

import pytest


@pytest.mark.parametrize("contender", ["ours/float32", "peer/PyTorch, augmentation by OpenCV"])
def bench_training_step(race, contender):
    race("train", contender)
