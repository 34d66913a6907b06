# SPDX-License-Identifier: MIT
"""Rows as text: tables, and growth curves."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.rows import Row
from poseren_ext._utils.markdown import markdown_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMNS = (
    "work",
    "weights or data",
    "batch",
    "ours (ms)",
    "fastest baseline (ms)",
    "ratio",
    "lower bound (ms)",
    "regions recomputed",
)


def cells(row: Row) -> list[str]:
    """A row as text, one cell for each of COLUMNS; the baseline is the fastest one of the same precision."""
    times = row.same_precision()
    fastest = min(times, key=lambda name: times[name], default=None)
    return [
        row.name,
        row.dtype,
        str(row.batch),
        _ms(row.ours_ms),
        "" if fastest is None else f"{_ms(times[fastest])} {fastest}",
        "" if fastest is None else f"{row.ratio[fastest]:.1f}x",
        ", ".join(
            ([] if row.lower_bound_ms is None else [_ms(row.lower_bound_ms)])
            + [f"{_ms(ms)} {name}" for name, ms in row.params.get("limits", {}).items()]
        ),
        ", ".join(f"{100 * share:.0f} %" for share in row.moved),
    ]


def detail_lines(row: Row) -> list[str]:
    """Throughput, for rows with a unit; time and ratio of every baseline, or why it could not run; the targets."""
    lines = [f"{1000 * row.batch / row.ours_ms:.0f} {row.params['unit']}/s"] if "unit" in row.params else []
    for name, ms in row.baselines.items():
        lines.append(f"{name}: {row.unavailable[name] if ms is None else f'{_ms(ms)} ms, {row.ratio[name]:.1f}x'}")
    for target in row.targets:
        reached = "no baseline" if target["reached"] is None else f"{target['reached']:.3g}"
        verdict = "met" if target["met"] else "not met"
        if "limit" in target:
            verdict += f" ({target['limit']} would reach {target['limit_reaches']:.3g})"
        lines.append(f"target {target['wanted']}: {reached}, {verdict}")
    return lines


def markdown(rows: Sequence[Row]) -> str:
    """The table of all rows that have baselines, for each device, with the machine above it."""
    shown = [row for row in rows if row.baselines]
    lines = []
    for device in dict.fromkeys(row.device for row in shown):
        mine = [row for row in shown if row.device == device]
        machine = mine[0].machine
        where = machine.get("gpu") or machine["processor"]
        lines += [
            f"{where}, {machine['threads']} threads, torch {machine['libraries']['torch']}, commit {machine['commit']}",
            "",
        ]
        lines.append(markdown_table(COLUMNS, [cells(row) for row in mine], left=2))
    return "\n".join(lines)


def growth_curves(rows: Sequence[Row]) -> Figure | None:
    """Log-log plots of the time over batch, stages, joints and pixels; None without growth rows."""
    import matplotlib.pyplot as plt
    from matplotlib.ticker import EngFormatter, LogLocator, NullLocator

    curves: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for row in rows:
        if "along" in row.params:
            points = curves.setdefault(row.params["along"], {}).setdefault(row.params["of"], [])
            points.append((row.params["value"], row.ours_ms))
    if not curves:
        return None
    figure, axes = plt.subplots(1, len(curves), figsize=(3.6 * len(curves), 3.4), layout="constrained", squeeze=False)
    for axis, (along, of) in zip(axes[0], curves.items(), strict=True):
        for name, points in of.items():
            values, times = zip(*points, strict=True)
            axis.plot(values, times, marker="o", markersize=4, label=name)
            axis.plot(values, [times[0] * value / values[0] for value in values], color="0.75", linewidth=1, zorder=0)
        axis.set(xscale="log", yscale="log", xlabel=along, ylim=(min(t for p in of.values() for _, t in p) / 2, None))
        axis.set_xticks(sorted({value for points in of.values() for value, _ in points}))
        axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        for side in (axis.xaxis, axis.yaxis):
            side.set_minor_locator(NullLocator())
        axis.xaxis.set_major_formatter(EngFormatter(places=0, sep=""))
        axis.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axis.legend(fontsize=7, frameon=False)
        axis.spines[["top", "right"]].set_visible(False)
    axes[0, 0].set_ylabel("ms (grey: linear growth)")
    return figure


def _ms(value: float) -> str:
    return f"{value:.3f}" if value < 1 else f"{value:.1f}"
