# SPDX-License-Identifier: MIT
"""A depth frame to joints against pipelines of OpenCV with PyTorch or ONNX Runtime."""

import pytest

OURS = ("float32", "bfloat16", "int8")
PEERS = (
    "PyTorch",
    "PyTorch, channels_last",
    "torch.compile",
    "torch.compile, channels_last",
    "ONNX Runtime",
    "ONNX Runtime int8",
)


@pytest.mark.parametrize("contender", [*(f"ours/{name}" for name in OURS), *(f"peer/{name}" for name in PEERS)])
def bench_refine_frame(race, contender):
    race("frame", contender)


@pytest.mark.parametrize("contender", [f"ours/{name}" for name in OURS])
def bench_refine_frame_hand_searched(race, contender):
    race("frame", contender, number=1)
