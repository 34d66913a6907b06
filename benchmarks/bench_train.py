# SPDX-License-Identifier: MIT
"""Training's data path and step, apart and together, against PyTorch with augmentation on the host."""

import pytest

PEERS = ("augmentation by OpenCV", "PyTorch", "PyTorch, augmentation by OpenCV")


@pytest.mark.parametrize("number", range(3), ids=["data", "step", "data and step"])
@pytest.mark.parametrize("ours", [True, False], ids=["ours", "peer"])
def bench_training(race, number, ours):
    race("train", "ours/float32" if ours else f"peer/{PEERS[number]}", number)
