# SPDX-License-Identifier: MIT
"""What number format the products of a training step are made in."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from poseren_ext.training.config import Precision


@contextmanager
def tensor_cores(precision: Precision) -> Iterator[None]:
    """Lets float32 products on a GPU round their factors to tf32, or not ("float32"); as before afterwards.

    PyTorch's own default rounds those of convolutions and not those of matrices.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = precision != "float32"
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Forward passes in bfloat16 where the precision says so."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")
