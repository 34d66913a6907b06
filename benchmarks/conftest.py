# SPDX-License-Identifier: MIT
"""One contest a subject, its contenders one benchmark each. POSEREN_BENCH_TINY=1 shows that all runs, in seconds.

pytest-benchmark times one contender after the other; `poseren bench`, whose figures are published, lets them take
turns.
"""

from __future__ import annotations

import os
from functools import cache

import pytest
import torch

from benchmarks.machine import set_threads
from benchmarks.material import Material
from benchmarks.rows import CannotRun, Contest
from benchmarks.runner import CONTESTS
from benchmarks.settings import Settings


@cache
def _material() -> Material:
    settings = Settings.tiny() if os.environ.get("POSEREN_BENCH_TINY") == "1" else Settings()
    set_threads(settings.threads)
    return Material(settings)


@cache
def _contest(subject: str, number: int) -> Contest:
    contests = CONTESTS[subject](_material())
    contest = next(contest for i, contest in enumerate(contests) if i == number)
    with torch.inference_mode(not contest.grad), torch.set_grad_enabled(contest.grad):
        contest.check()
    return contest


@pytest.fixture
def race(benchmark):
    """Times one contender, "ours/..." or "peer/...", of a subject's contest of that number."""

    def run(subject: str, contender: str, number: int = 0) -> None:
        contest = _contest(subject, number)
        peer = contest.peers.get(contender.removeprefix("peer/"))
        if isinstance(peer, CannotRun):
            pytest.skip(peer.why)
        call, count = contest.contenders()[contender], iter(range(10**9))
        with torch.inference_mode(not contest.grad), torch.set_grad_enabled(contest.grad):
            benchmark(lambda: call(next(count)))

    return run
