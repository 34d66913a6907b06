# SPDX-License-Identifier: MIT
"""Modules through torch.compile."""

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
    """A function after torch.compile and one call; or why that cannot be had.

    Args:
        function: a module or a function of tensors.
        example: arguments of the sizes that are to be timed.
        settings: the time that compiling may take, 0 for none at all; the device.
        freeze: weights become constants, which the CPU backend packs for its matrix products.
        grad: it will be asked for gradients.
        tune: on a GPU, try many kernels for each product; without, CUDA graphs alone.
    """
    if not settings.compile_seconds:
        return CannotRun("torch.compile was switched off for this run")
    options: dict[str, Any] = {"options": {"freezing": freeze}}
    if settings.device == "cuda":
        options = {"mode": "max-autotune" if tune else "reduce-overhead"}
    call: Any = torch.compile(function, dynamic=False, fullgraph=True, **options)
    try:
        with time_limit(settings.compile_seconds), torch.inference_mode(not grad):
            for _ in range(1 if settings.device == "cpu" else 3):  # a GPU's graphs are recorded at the second call
                call(*example)
    except Exception as error:  # a compiler's faults are of any kind; the row says which
        return CannotRun(f"torch.compile: {type(error).__name__}: {str(error).strip().splitlines()[0][:200]}")
    return call


def call_or_reason(function: Any | CannotRun, work: list[tuple[Any, ...]]) -> Call | CannotRun:
    """The function on rotating arguments, or the reason why there is none."""
    if isinstance(function, CannotRun):
        return function
    return lambda number: function(*work[number % len(work)])
