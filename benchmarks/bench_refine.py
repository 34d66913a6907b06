# SPDX-License-Identifier: MIT
"""cascade_refine, three stages, against PyTorch and ONNX Runtime."""

import pytest

OURS = ("float32", "bfloat16", "int8")
PEERS = ("PyTorch", "torch.compile", "ONNX Runtime", "ONNX Runtime int8")
CONTENDERS = (*(f"ours/{name}" for name in OURS), *(f"peer/{name}" for name in PEERS))


@pytest.mark.parametrize("contender", CONTENDERS)
def bench_cascade_refine_one_frame(race, contender):
    race("refine", contender)


@pytest.mark.parametrize("contender", CONTENDERS)
def bench_cascade_refine_batch(race, contender):
    race("refine", contender, number=1)
