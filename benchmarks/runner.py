# SPDX-License-Identifier: MIT
"""Runs the subjects: compare outputs, time, make rows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from benchmarks import machine as machines
from benchmarks.material import Material
from benchmarks.rows import Comparison, Row, make_rows
from benchmarks.settings import Settings
from benchmarks.subjects import center, crop, either, frame, growth, pool, refine, schedule, stream, train
from benchmarks.timing import interleaved_medians

COMPARISONS: dict[str, Callable[[Material], Iterator[Comparison]]] = {
    "center": center.comparisons,
    "crop": crop.comparisons,
    "pool": pool.comparisons,
    "refine": refine.comparisons,
    "frame": frame.comparisons,
    "either": either.comparisons,
    "train": train.comparisons,
}
SUBJECTS = (*COMPARISONS, "growth")


def run(subjects: Sequence[str], settings: Settings, report: Callable[[Row], None] | None = None) -> list[Row]:
    """Run the benchmarks of some subjects.

    Args:
        subjects: names in ``SUBJECTS``.
        settings: sizes and durations.
        report: called with each row as soon as it is measured.

    Returns:
        All rows.

    Raises:
        ValueError: A subject is unknown, or the device is not available.
        AssertionError: An implementation computes something else; nothing of its comparison was timed.
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
        comparisons = (
            stream.comparisons if subject == "frame" and material.settings.device == "cuda" else COMPARISONS[subject]
        )
        for comparison in comparisons(material):
            yield from make_rows(comparison, measure(comparison, material.settings), machine)
            torch._dynamo.reset()  # frees the constants of modules compiled for this comparison
        if subject == "train" and material.settings.device == "cuda":
            yield from schedule.rows(material, machine)


def measure(comparison: Comparison, settings: Settings) -> dict[str, float]:
    """Times of a comparison in ms, after its check: medians, except for probes, whose fastest call counts.

    Raises:
        AssertionError: The implementations do not compute the same.
    """
    with torch.inference_mode(not comparison.grad), torch.set_grad_enabled(comparison.grad):
        comparison.check()
        return interleaved_medians(
            comparison.calls(),
            seconds=settings.seconds,
            cold=comparison.cold,
            device=settings.device,
            fastest=comparison.named_probes(),
        )
