# SPDX-License-Identifier: MIT
"""hand_center against OpenCV, NumPy and PyTorch."""

import pytest

PEERS = ("PyTorch", "torch.compile", "NumPy", "OpenCV", "OpenCV, a thread a frame")


@pytest.mark.parametrize("contender", ["ours/uint16", *(f"peer/{name}" for name in PEERS)])
def bench_hand_center(race, contender):
    race("center", contender)
