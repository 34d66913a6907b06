# SPDX-License-Identifier: MIT
"""The same rows with pytest-benchmark, one benchmark per implementation: ``pytest benchmarks --benchmark-enable``.

pytest-benchmark times the implementations one after the other; ``python -m benchmarks``, whose figures are published,
interleaves them. POSEREN_BENCH_TINY=1 selects tiny sizes, whose figures mean nothing.
"""

from __future__ import annotations

import os
from dataclasses import replace
from functools import cache

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.machine import set_threads
from benchmarks.material import Material
from benchmarks.rows import CannotRun, Comparison
from benchmarks.runner import COMPARISONS
from benchmarks.settings import Settings


@cache
def _material() -> Material:
    settings = Settings.tiny() if os.environ.get("POSEREN_BENCH_TINY") == "1" else Settings()
    set_threads(settings.threads)
    return Material(settings)


@cache
def _comparison(subject: str, number: int) -> Comparison:
    comparison = next(c for i, c in enumerate(COMPARISONS[subject](_material())) if i == number)
    with torch.inference_mode(not comparison.grad), torch.set_grad_enabled(comparison.grad):
        comparison.check()
    return comparison


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each implementation of each comparison; their names are taken from tiny ones."""
    material = Material(replace(Settings.tiny(), exported=False))
    found = [
        (subject, number, implementation)
        for subject, comparisons in COMPARISONS.items()
        for number, comparison in enumerate(comparisons(material))
        for implementation in comparison.implementations()
    ]
    metafunc.parametrize(("subject", "number", "implementation"), found)


def test_speed(benchmark: BenchmarkFixture, subject: str, number: int, implementation: str) -> None:
    comparison = _comparison(subject, number)
    call = comparison.implementations()[implementation]
    if isinstance(call, CannotRun):
        pytest.skip(call.why)
    numbers = iter(range(10**9))
    with torch.inference_mode(not comparison.grad), torch.set_grad_enabled(comparison.grad):
        benchmark(lambda: call(next(numbers)))
