# SPDX-License-Identifier: MIT
"""torch.compile baselines."""

from __future__ import annotations

from typing import Any

import torch

from benchmarks.rows import Call, CannotRun
from benchmarks.settings import Settings
from benchmarks.timing import time_limit


def compiled(
    function: Any,
    example: tuple[Any, ...],
    settings: Settings,
    *,
    freeze: bool = True,
    grad: bool = False,
    tune: bool = True,
) -> Any | CannotRun:
    """A function compiled by torch.compile and called once; or why it cannot be.

    Args:
        function: a module or a function of tensors.
        example: arguments with the sizes that will be timed.
        settings: time limit (0 skips it) and device.
        freeze: make the weights constants, which the CPU backend packs for its matrix products.
        grad: gradients will be computed.
        tune: on a GPU, autotune the kernels; otherwise only capture CUDA graphs.
    """
    if not settings.compile_seconds:
        return CannotRun("torch.compile was skipped (--compile-seconds 0)")
    options: dict[str, Any] = {"options": {"freezing": freeze}}
    if settings.device == "cuda":
        options = {"mode": "max-autotune" if tune else "reduce-overhead"}
    call: Any = torch.compile(function, dynamic=False, fullgraph=True, **options)
    try:
        with time_limit(settings.compile_seconds), torch.inference_mode(not grad):
            for _ in range(1 if settings.device == "cpu" else 3):  # CUDA graphs are captured at the second call
                call(*example)
    except Exception as error:  # compilers raise errors of any type; the row reports it
        return CannotRun(f"torch.compile: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")
    return call


def call_or_reason(function: Any | CannotRun, work: list[tuple[Any, ...]]) -> Call | CannotRun:
    """A call that uses the input sets in turn, or the reason why the function cannot run."""
    if isinstance(function, CannotRun):
        return function
    return lambda number: function(*work[number % len(work)])
