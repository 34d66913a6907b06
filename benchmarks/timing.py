# SPDX-License-Identifier: MIT
"""Medians of interleaved timings."""

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
"""Seconds between implementations: the thread pool of the previous one stops spinning, which would take a core."""
FEWEST, MOST = 5, 100
"""Number of rounds."""
SHORT = 20.0
"""Milliseconds of warm-up in each round, and then of timed calls. A short call gets faster for about that long: until
the last-level cache holds its own data instead of that of the previous implementation."""
MOST_CALLS = 20
"""Largest number of warm-up calls, and of timed calls, in a round."""


def interleaved_medians(
    calls: Mapping[str, Call],
    *,
    seconds: float,
    cold: bool,
    device: str = "cpu",
    fastest: Collection[str] = (),
) -> Milliseconds:
    """Median time of each implementation.

    In every round all implementations run, beginning with the next one each time, so that other load on the machine
    affects all of them alike. Every call uses the next input set.

    Args:
        calls: the implementations by name.
        seconds: approximate duration of the measurement.
        cold: time the first call of each round. Otherwise warm-up calls come before the timed ones.
        device: "cuda" measures with CUDA events.
        fastest: names of implementations that report their fastest call instead of the median.

    Returns:
        Milliseconds by name.
    """
    # The faster of two calls, because the first one may initialise something.
    first = {name: min(_timed(call, number, device) for number in range(2)) for name, call in calls.items()}
    repeats = {name: 1 if cold else max(1, min(MOST_CALLS, math.ceil(SHORT / ms))) for name, ms in first.items()}
    round_seconds = sum(PAUSE + ms / 1000 * repeats[name] * (1 if cold else 2) for name, ms in first.items())
    rounds = max(FEWEST, min(MOST, int(seconds / round_seconds)))
    names, samples = list(calls), {name: list[float]() for name in calls}
    for number in range(rounds):
        begin = number % len(names)
        for name in names[begin:] + names[:begin]:
            time.sleep(PAUSE)
            for repeat in range(0 if cold else repeats[name]):
                calls[name](number + repeat)
            for repeat in range(repeats[name]):
                samples[name].append(_timed(calls[name], number + repeats[name] + repeat, device))
    return {name: min(times) if name in fastest else median(times) for name, times in samples.items()}


def _timed(call: Call, number: int, device: str) -> float:
    """Time one call, in ms."""
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
    """Raise TimeoutError in code that runs longer. No limit outside the main thread, where no signal arrives."""
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
