# SPDX-License-Identifier: MIT
"""Runs the subjects: equality, then turns, then rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks import machine as machines
from benchmarks.material import Material
from benchmarks.rows import Contest, Row, make_rows
from benchmarks.settings import Settings
from benchmarks.subjects import center, crop, frame, growth, pool, refine, schedule, stream, train
from benchmarks.timing import interleaved_medians

CONTESTS: dict[str, Callable[[Material], Iterator[Contest]]] = {
    "center": center.contests,
    "crop": crop.contests,
    "pool": pool.contests,
    "refine": refine.contests,
    "frame": frame.contests,
    "train": train.contests,
}
SUBJECTS = (*CONTESTS, "growth")


def run(subjects: Sequence[str], settings: Settings, report: Callable[[Row], None] | None = None) -> list[Row]:
    """Measure subjects.

    Args:
        subjects: of ``SUBJECTS``.
        settings: how large and how long.
        report: is given each row when it is there.

    Returns:
        All rows.

    Raises:
        ValueError: an unknown subject, or a device that is not there.
        AssertionError: a contender computes something else; nothing of its contest was timed.
    """
    unknown = [subject for subject in subjects if subject not in SUBJECTS]
    if unknown:
        raise ValueError(f"unknown subject {unknown[0]!r}; expected one of {', '.join(SUBJECTS)}")
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise ValueError(
            "device is cuda, but PyTorch sees no GPU here; run on the CPU or install a CUDA build of torch"
        )
    machines.set_threads(settings.threads)
    machine = machines.describe(settings.device, settings.threads)
    material = Material(settings)
    rows = []
    for row in _rows(subjects, material, machine):
        rows.append(row)
        if report:
            report(row)
    return rows


def _rows(subjects: Sequence[str], material: Material, machine: dict[str, object]) -> Iterator[Row]:
    for subject in subjects:
        if subject == "growth":
            yield from growth.curves(material, machine)
            continue
        contests = stream.contests if subject == "frame" and material.settings.device == "cuda" else CONTESTS[subject]
        for contest in contests(material):
            yield from make_rows(contest, measure(contest, material.settings), machine)
            torch._dynamo.reset()  # frees the constants of what was compiled for this contest
        if subject == "train" and material.settings.device == "cuda":
            yield from schedule.rows(material, machine)


def measure(contest: Contest, settings: Settings) -> dict[str, float]:
    """Times in ms of a contest's contenders, after they have proven equal: medians, but of probes the fastest.

    Raises:
        AssertionError: they are not.
    """
    with torch.inference_mode(not contest.grad), torch.set_grad_enabled(contest.grad):
        contest.check()
        return interleaved_medians(
            contest.contenders(),
            seconds=settings.seconds,
            cold=contest.cold,
            device=settings.device,
            fastest=contest.ways(),
        )
