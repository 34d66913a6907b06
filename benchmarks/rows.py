# SPDX-License-Identifier: MIT
"""What is measured against what, and the rows that come of it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TypeAlias

Call: TypeAlias = Callable[[int], Any]
"""One piece of work on the input set of that number."""
Milliseconds: TypeAlias = dict[str, float]


@dataclass(frozen=True)
class CannotRun:
    """A peer that is not here: the row says why."""

    why: str


@dataclass(frozen=True)
class Probe:
    """One way to use the hardware: what a call of it moves or computes, in bytes or products."""

    call: Call
    amount: float


@dataclass(frozen=True)
class Target:
    """A goal of one row.

    Attributes:
        ratio: how many times as fast as each of `peers` we want to be.
        peers: against which; those that cannot run do not count.
        most_ms: or the longest that it may take.
        or_within: met as well within this multiple of what one of the contest's limits takes: (multiple, limit).
        limit: one of the contest's limits; the verdict says how far that would get.
    """

    ratio: float | None = None
    peers: tuple[str, ...] = ()
    most_ms: float | None = None
    or_within: tuple[float, str] | None = None
    limit: str | None = None

    def judge(self, ours: float, peers: Mapping[str, float | None], limits: Milliseconds) -> dict[str, Any]:
        """What was wanted, what was reached and whether that is enough."""
        if self.most_ms is not None:
            return {"wanted": f"at most {self.most_ms:g} ms", "reached": ours, "met": ours <= self.most_ms}
        assert self.ratio is not None
        times = {name: ms for name in self.peers if (ms := peers.get(name)) is not None}
        fastest = min(times, key=lambda name: times[name], default=None)
        reached = None if fastest is None else times[fastest] / ours
        met = None if reached is None else reached >= self.ratio
        wanted = f"{self.ratio:g}x {fastest or 'a peer, of which none ran'}"
        if self.or_within is not None:
            multiple, limit = self.or_within
            wanted += f", or within {multiple:g}x of {limit}"
            met = bool(met) or ours <= multiple * limits[limit]
        verdict = {"wanted": wanted, "reached": reached, "met": met}
        if self.limit is not None and fastest is not None:
            verdict |= {"limit": self.limit, "limit_reaches": times[fastest] / limits[self.limit]}
        return verdict


@dataclass(frozen=True)
class Contest:
    """Ours and the peers on the same work.

    Attributes:
        name: of the work.
        device: where it is done.
        batch: samples a call.
        ours: our ways by the type of their weights or data; each becomes a row.
        peers: by name.
        check: raises AssertionError unless all compute the same; called before anything is timed.
        limits: what does not do the work but moves as much, by names: timed as the peers are.
        params: sizes and settings.
        cold: a call finds its weights in memory, not in a cache, as the one call that a frame makes does.
        targets: by the names in `ours`.
        probes: timed in turn with the contenders: ways to use each resource, of which the fastest call counts.
        floor: from the resources' costs, in ms a unit, to the least that each of ours could take, ms.
        moved: for each of ours the share of windows that each stage has to look at.
        verdicts: for each of ours more goals, already judged, in the form of ``Target.judge``.
        grad: gradients are asked for; otherwise all runs under ``torch.inference_mode``.
    """

    name: str
    device: str
    batch: int
    ours: Mapping[str, Call]
    check: Callable[[], None]
    peers: Mapping[str, Call | CannotRun] = field(default_factory=dict)
    limits: Mapping[str, Call] = field(default_factory=dict)
    params: Mapping[str, Any] = field(default_factory=dict)
    cold: bool = False
    targets: Mapping[str, Sequence[Target]] = field(default_factory=dict)
    probes: Mapping[str, Sequence[Probe]] = field(default_factory=dict)
    floor: Callable[[Milliseconds], Milliseconds] | None = None
    moved: Mapping[str, list[float]] = field(default_factory=dict)
    verdicts: Mapping[str, list[dict[str, Any]]] = field(default_factory=dict)
    grad: bool = False

    def contenders(self) -> dict[str, Call]:
        """All that can run: ours, peers, limits, probes, by names that no two share."""
        calls = {f"ours/{name}": call for name, call in self.ours.items()}
        calls |= {f"peer/{name}": call for name, call in self.peers.items() if not isinstance(call, CannotRun)}
        calls |= {f"limit/{name}": call for name, call in self.limits.items()}
        return calls | {name: probe.call for name, probe in self.ways().items()}

    def ways(self) -> dict[str, Probe]:
        """All probes, by the names that they have among the contenders."""
        return {f"probe/{name}/{i}": probe for name, ways in self.probes.items() for i, probe in enumerate(ways)}

    def costs(self, times: Milliseconds) -> Milliseconds:
        """What a unit of each resource costs at the least, ms."""
        return {
            name: min(times[f"probe/{name}/{i}"] / probe.amount for i, probe in enumerate(ways))
            for name, ways in self.probes.items()
        }


@dataclass(frozen=True)
class Row:
    """One line of the results: medians in ms; a peer that could not run has none and a reason in `unavailable`."""

    name: str
    device: str
    dtype: str
    batch: int
    ours_ms: float
    peers: dict[str, float | None]
    ratio: dict[str, float]
    floor_ms: float | None
    params: dict[str, Any]
    machine: dict[str, Any]
    unavailable: dict[str, str] = field(default_factory=dict)
    moved: list[float] = field(default_factory=list)
    targets: list[dict[str, Any]] = field(default_factory=list)


def make_rows(contest: Contest, times: Milliseconds, machine: dict[str, Any]) -> list[Row]:
    """The rows of a contest from the times of its contenders: medians, but of probes the fastest."""
    peers = {name: times.get(f"peer/{name}") for name in contest.peers}
    limits = {name: times[f"limit/{name}"] for name in contest.limits}
    costs = contest.costs(times)
    floors = contest.floor(costs) if contest.floor else {}
    rows = []
    for dtype in contest.ours:
        ours, floor = times[f"ours/{dtype}"], floors.get(dtype)
        rows.append(
            Row(
                name=contest.name,
                device=contest.device,
                dtype=dtype,
                batch=contest.batch,
                ours_ms=ours,
                peers=peers,
                ratio={name: ms / ours for name, ms in peers.items() if ms is not None},
                floor_ms=floor,
                params=dict(contest.params) | ({"limits": limits} if limits else {}),
                machine=machine,
                unavailable={name: p.why for name, p in contest.peers.items() if isinstance(p, CannotRun)},
                moved=contest.moved.get(dtype, []),
                targets=[target.judge(ours, peers, limits) for target in contest.targets.get(dtype, ())]
                + contest.verdicts.get(dtype, []),
            )
        )
    return rows


def dump(rows: Iterable[Row]) -> str:
    """Rows as JSON text."""
    return json.dumps([asdict(row) for row in rows], indent=1) + "\n"


def load(path: Path) -> list[Row]:
    """Rows of a results file.

    Raises:
        ValueError: another file.
    """
    known = {one.name for one in fields(Row)}
    content = json.loads(path.read_text())
    if not isinstance(content, list) or not all(isinstance(row, dict) and set(row) == known for row in content):
        raise ValueError(f"{path}: no results of `poseren bench --json`; expected a list of rows")
    return [Row(**row) for row in content]
