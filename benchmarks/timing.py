# SPDX-License-Identifier: MIT
"""Medians of contenders that take turns."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from statistics import median
from types import FrameType

import torch

from benchmarks.rows import Call, Milliseconds

PAUSE = 0.004
"""Seconds before a turn: thread pools of the last contender stop spinning, which would cost the next one a core."""
FEWEST, MOST = 5, 100
"""Turns of each contender."""
SHORT = 20.0
"""Milliseconds that a turn's untimed calls go on for, and then its timed ones. For so long a short call gets faster:
until the last-level cache holds what it works on, instead of what the contender before it did."""
MOST_CALLS = 20
"""Of either kind a turn, however short they are."""


def interleaved_medians(
    calls: Mapping[str, Call],
    *,
    seconds: float,
    cold: bool,
    device: str = "cpu",
    fastest: Collection[str] = (),
) -> Milliseconds:
    """Median time of each contender.

    They take turns, each time beginning with another, so that what else the machine does falls on all of them. Every
    call works on the next input set.

    Args:
        calls: the contenders.
        seconds: about how long to go on.
        cold: time the first call of a turn. Otherwise as many go before that are not timed and wake threads and caches.
        device: on "cuda" events of the GPU are timed.
        fastest: contenders of whom the fastest call counts instead of the median.

    Returns:
        Milliseconds by the contenders' names.
    """
    # Of two calls the faster: the first one may set things up.
    first = {name: min(_timed(call, number, device) for number in range(2)) for name, call in calls.items()}
    repeats = {name: 1 if cold else max(1, min(MOST_CALLS, math.ceil(SHORT / ms))) for name, ms in first.items()}
    turn = sum(PAUSE + ms / 1000 * repeats[name] * (1 if cold else 2) for name, ms in first.items())
    turns = max(FEWEST, min(MOST, int(seconds / turn)))
    names, samples = list(calls), {name: list[float]() for name in calls}
    for number in range(turns):
        begin = number % len(names)
        for name in names[begin:] + names[:begin]:
            time.sleep(PAUSE)
            for repeat in range(0 if cold else repeats[name]):
                calls[name](number + repeat)
            for repeat in range(repeats[name]):
                samples[name].append(_timed(calls[name], number + repeats[name] + repeat, device))
    return {name: min(times) if name in fastest else median(times) for name, times in samples.items()}


def _timed(call: Call, number: int, device: str) -> float:
    """Milliseconds of one call."""
    if device == "cuda":
        begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        torch.cuda.synchronize()
        begin.record()  # type: ignore[no-untyped-call]
        call(number)
        end.record()  # type: ignore[no-untyped-call]
        end.synchronize()  # type: ignore[no-untyped-call]
        elapsed: float = begin.elapsed_time(end)  # type: ignore[no-untyped-call]
        return elapsed
    began = time.perf_counter()
    call(number)
    return 1000 * (time.perf_counter() - began)


@contextmanager
def time_limit(seconds: float) -> Iterator[None]:
    """Raises TimeoutError in what runs longer. Outside the main thread, where no signal arrives, there is no limit."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def expire(_signal: int, _frame: FrameType | None) -> None:
        raise TimeoutError(f"not done within {seconds:g} s")

    previous = signal.signal(signal.SIGALRM, expire)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, previous)
