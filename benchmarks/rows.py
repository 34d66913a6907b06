# SPDX-License-Identifier: MIT
"""Comparisons of our implementations with baselines, and the result rows made from them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

Call: TypeAlias = Callable[[int], Any]
"""Computes the result of the input set with that number."""
Milliseconds: TypeAlias = dict[str, float]
NARROW = ("bfloat16", "int8")


@dataclass(frozen=True)
class CannotRun:
    """A baseline that is not available here, and why."""

    why: str


@dataclass(frozen=True)
class Probe:
    """A measurement of the hardware: a call, and the number of bytes or multiply-adds of it."""

    call: Call
    amount: float


@dataclass(frozen=True)
class Target:
    """A goal of one row.

    Attributes:
        ratio: how many times as fast as each of `baselines` we want to be.
        baselines: their names; those that cannot run do not count.
        most_ms: alternatively, the longest time in ms.
        or_within: also met within this multiple of the time of one of the limits: (multiple, limit).
        limit: one of the limits, whose ratio is reported beside ours.
    """

    ratio: float | None = None
    baselines: tuple[str, ...] = ()
    most_ms: float | None = None
    or_within: tuple[float, str] | None = None
    limit: str | None = None

    def judge(self, ours: float, baselines: Mapping[str, float | None], limits: Milliseconds) -> dict[str, Any]:
        """The goal, the value reached, and whether it is met."""
        if self.most_ms is not None:
            return {"wanted": f"at most {self.most_ms:g} ms", "reached": ours, "met": ours <= self.most_ms}
        assert self.ratio is not None
        times = {name: ms for name in self.baselines if (ms := baselines.get(name)) is not None}
        fastest = min(times, key=lambda name: times[name], default=None)
        reached = None if fastest is None else times[fastest] / ours
        met = None if reached is None else reached >= self.ratio
        wanted = f"{self.ratio:g}x {fastest or 'the fastest baseline, but none ran'}"
        if self.or_within is not None:
            multiple, limit = self.or_within
            wanted += f", or within {multiple:g}x of {limit}"
            met = bool(met) or ours <= multiple * limits[limit]
        verdict = {"wanted": wanted, "reached": reached, "met": met}
        if self.limit is not None and fastest is not None:
            verdict |= {"limit": self.limit, "limit_reaches": times[fastest] / limits[self.limit]}
        return verdict


@dataclass(frozen=True)
class Comparison:
    """Our implementations and the baselines on the same inputs.

    Attributes:
        name: what is computed.
        device: "cpu" or "cuda".
        batch: samples per call.
        ours: our implementations by the type of their weights or data; each becomes a row.
        baselines: by name; names of those with narrower weights end in "bfloat16" or "int8".
        check: raises AssertionError unless all compute the same; called before anything is timed.
        limits: calls that move as much data without computing the result, by name; timed as the baselines are.
        params: sizes and settings.
        cold: a call reads its weights from memory, not from a cache, as a single frame does.
        targets: by the names in `ours`.
        probes: measurements of each hardware resource, timed with the implementations; the fastest call counts.
        lower_bound: from the cost of each resource, in ms per unit, to the lower bound of each of ours, in ms.
        moved: for each of ours the share of windows that each stage computes.
        verdicts: for each of ours more goals, already judged, in the form of ``Target.judge``.
        grad: gradients are computed; otherwise everything runs under ``torch.inference_mode``.
    """

    name: str
    device: str
    batch: int
    ours: Mapping[str, Call]
    check: Callable[[], None]
    baselines: Mapping[str, Call | CannotRun] = field(default_factory=dict)
    limits: Mapping[str, Call] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    cold: bool = False
    targets: Mapping[str, Sequence[Target]] = field(default_factory=dict)
    probes: Mapping[str, Sequence[Probe]] = field(default_factory=dict)
    lower_bound: Callable[[Milliseconds], Milliseconds] | None = None
    moved: Mapping[str, list[float]] = field(default_factory=dict)
    verdicts: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    grad: bool = False

    def implementations(self) -> dict[str, Call | CannotRun]:
        """Our implementations, "ours/NAME", and the baselines, "baseline/NAME"."""
        ours: dict[str, Call | CannotRun] = {f"ours/{name}": call for name, call in self.ours.items()}
        return ours | {f"baseline/{name}": call for name, call in self.baselines.items()}

    def calls(self) -> dict[str, Call]:
        """Everything that is timed: implementations that can run, limits and probes, by unique names."""
        calls = {name: call for name, call in self.implementations().items() if not isinstance(call, CannotRun)}
        calls |= {f"limit/{name}": call for name, call in self.limits.items()}
        return calls | {name: probe.call for name, probe in self.named_probes().items()}

    def named_probes(self) -> dict[str, Probe]:
        """All probes by their names in `calls`."""
        return {f"probe/{name}/{i}": probe for name, probes in self.probes.items() for i, probe in enumerate(probes)}

    def costs(self, times: Milliseconds) -> Milliseconds:
        """The lowest measured cost of each resource, ms per unit."""
        return {
            name: min(times[f"probe/{name}/{i}"] / probe.amount for i, probe in enumerate(probes))
            for name, probes in self.probes.items()
        }


@dataclass(frozen=True)
class Row:
    """One row of the results: medians in ms; baselines that could not run are null, with a reason in `unavailable`."""

    name: str
    device: str
    dtype: str
    batch: int
    ours_ms: float
    baselines: dict[str, float | None]
    ratio: dict[str, float]
    lower_bound_ms: float | None
    params: dict[str, Any]
    machine: dict[str, Any]
    unavailable: dict[str, str] = field(default_factory=dict)
    moved: list[float] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)

    def same_precision(self) -> dict[str, float]:
        """Times of the baselines that ran with weights as narrow as ours, ms by name."""
        return {
            name: ms for name, ms in self.baselines.items() if ms is not None and _narrow(name) == _narrow(self.dtype)
        }


def _narrow(name: str) -> str | None:
    """The narrow weight type that a name ends in; None for the full precision."""
    return next((dtype for dtype in NARROW if name.endswith(dtype)), None)


def make_rows(comparison: Comparison, times: Milliseconds, machine: dict[str, Any]) -> list[Row]:
    """The rows of a comparison from the measured times: medians, except for probes, whose fastest call counts."""
    baselines = {name: times.get(f"baseline/{name}") for name in comparison.baselines}
    limits = {name: times[f"limit/{name}"] for name in comparison.limits}
    lower_bounds = comparison.lower_bound(comparison.costs(times)) if comparison.lower_bound else {}
    rows = []
    for dtype in comparison.ours:
        ours = times[f"ours/{dtype}"]
        rows.append(
            Row(
                name=comparison.name,
                device=comparison.device,
                dtype=dtype,
                batch=comparison.batch,
                ours_ms=ours,
                baselines=baselines,
                ratio={name: ms / ours for name, ms in baselines.items() if ms is not None},
                lower_bound_ms=lower_bounds.get(dtype),
                params=dict(comparison.params) | ({"limits": limits} if limits else {}),
                machine=machine,
                unavailable={n: b.why for n, b in comparison.baselines.items() if isinstance(b, CannotRun)},
                moved=comparison.moved.get(dtype, []),
                targets=[target.judge(ours, baselines, limits) for target in comparison.targets.get(dtype, ())]
                + comparison.verdicts.get(dtype, []),
            )
        )
    return rows


def dump(rows: Iterable[Row]) -> str:
    """Rows as JSON text."""
    return json.dumps([asdict(row) for row in rows], indent=1) + "\n"


def load(path: Path) -> list[Row]:
    """Rows of a results file.

    Raises:
        ValueError: The file does not hold a list of rows.
    """
    known = {one.name for one in fields(Row)}
    content = json.loads(path.read_text())
    if not isinstance(content, list) or not all(isinstance(row, dict) and set(row) == known for row in content):
        raise ValueError(f"{path} is not a results file; expected what `python -m benchmarks --json {path}` writes")
    return [Row(**row) for row in content]
