# SPDX-License-Identifier: MIT
"""Curves and bars: success rates next to per-joint errors (figure 5), viewpoints (figure 8), iterations (figure 10)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure

from poseren_ext.evaluation.metrics import Evaluation, Over
from poseren_ext.geometry.skeleton import PALM_GROUP, Skeleton
from poseren_ext.plotting.style import INK, Axes, lines_for, new_figure, tidy

_OVER_LABEL = {
    "max": "frames with maximum error within threshold (%)",
    "mean": "frames with mean error within threshold (%)",
    "joint": "joints with error within threshold (%)",
}


def draw_success(axes: Axes, results: Sequence[Evaluation], over: Over = "max") -> None:
    """Success rate over the error threshold; the worst system first, as in the paper's legends."""
    lines = lines_for([result.name for result in results])
    for result in sorted(results, key=lambda one: -one.mean_3d):
        line = lines[result.name]
        rates = {"max": result.success_max, "mean": result.success_mean, "joint": result.success_joint}[over]
        axes.plot(
            result.thresholds,
            rates,
            **line.options,
            label=f"{result.name} ({result.mean_3d:.2f} mm)",
        )
    tidy(axes, "error threshold (mm)", _OVER_LABEL[over])
    last = max(result.thresholds[-1] for result in results)
    axes.set(xlim=(0, last), ylim=(0, 100))
    axes.legend(loc="best", fontsize=9.5, framealpha=0.9, edgecolor="none", handlelength=3)


def joint_order(skeleton: Skeleton) -> list[int]:
    """The order of the joints in a chart: palm and wrist, then thumb to pinky, each from root to tip."""
    palm = [j for j, finger in enumerate(skeleton.finger_of) if finger == PALM_GROUP]
    fingers = []
    for finger, (_, root, tip) in enumerate(skeleton.fingers):
        own = [j for j, group in enumerate(skeleton.finger_of) if group == finger]
        # Label files list a finger in either direction; the tree knows which end is which.
        fingers += own if own.index(root) < own.index(tip) else own[::-1]
    return palm + fingers


def draw_joint_bars(axes: Axes, results: Sequence[Evaluation], skeleton: Skeleton | None = None) -> None:
    """Mean error of every joint, one bar per system, and the mean over all joints at the right."""
    order = joint_order(skeleton) if skeleton else list(range(len(results[0].joints)))
    names = [*(results[0].joints[j] for j in order), "mean"]
    lines = lines_for([result.name for result in results])
    width = 0.84 / len(results)
    places = np.arange(len(names), dtype=float)
    for index, result in enumerate(sorted(results, key=lambda one: -one.mean_3d)):
        heights = [*(result.per_joint[j] for j in order), result.mean_3d]
        offset = (index - (len(results) - 1) / 2) * width
        axes.bar(places + offset, heights, width, color=lines[result.name].color, label=result.name)
    axes.axvline(len(names) - 1.5, color=INK, linewidth=0.8)
    tidy(axes, "", "mean error (mm)")
    axes.grid(visible=False, axis="x")
    axes.set_xlim(-0.6, len(names) - 0.4)
    axes.set_xticks(places, [name.capitalize() for name in names], rotation=40, ha="right", rotation_mode="anchor")


def plot_comparison(
    results: Sequence[Evaluation], *, skeleton: Skeleton | None = None, title: str | None = None, over: Over = "max"
) -> Figure:
    """Success curves at the left, per-joint errors at the right: the layout of figures 5 to 7.

    Args:
        results: one or more systems on the same labels.
        skeleton: puts the joints in a reader's order.
        title: written above.
        over: what the success rates are about.

    Returns:
        The figure.

    Raises:
        ValueError: There is no result, or the results have different joints.
    """
    _same_joints(results)
    figure = new_figure(max(15.0, 8 + 0.09 * len(results) * len(results[0].joints)), 5.4)
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.75))
    draw_success(left, results, over)
    draw_joint_bars(right, results, skeleton)
    if title:
        figure.suptitle(title, fontsize=14, color=INK)
    return figure


def _same_joints(results: Sequence[Evaluation]) -> None:
    if not results:
        raise ValueError("no result to draw")
    for result in results[1:]:
        if result.joints != results[0].joints:
            raise ValueError(f"{result.name} and {results[0].name} have different joints: they cannot share a picture")


def plot_viewpoints(results: Sequence[Evaluation], *, title: str | None = None) -> Figure:
    """Mean error over the hand's yaw and pitch: figure 8. Gaps are angles without frames.

    Raises:
        ValueError: There is no result, or one was evaluated without viewpoints.
    """
    if not results:
        raise ValueError("no result to draw")
    lines = lines_for([result.name for result in results])
    figure = new_figure(13, 4.8)
    for axes, angle in zip(figure.subplots(1, 2), ("yaw", "pitch"), strict=True):
        for result in results:
            if result.viewpoint is None:
                raise ValueError(f"{result.name} was evaluated without viewpoints: use evaluate(..., viewpoint=True)")
            curve, line = result.viewpoint[angle], lines[result.name]
            error = [np.nan if value is None else value for value in curve.error]
            axes.plot(
                curve.centers,
                error,
                **line.options,
                marker="o",
                markersize=3,
                label=result.name,
            )
        tidy(axes, f"{angle} of the hand (degrees)", "mean error (mm)")
        axes.set_ylim(bottom=0)
    axes.legend(fontsize=10.5, framealpha=0.9, edgecolor="none")
    if title:
        figure.suptitle(title, fontsize=14, color=INK)
    return figure


def plot_iterations(
    errors: Mapping[str, Sequence[float]],
    *,
    title: str | None = None,
    spread: Mapping[str, Sequence[float]] | None = None,
) -> Figure:
    """Mean error over the number of iterations: figure 10.

    Args:
        errors: mean error (mm) after 0, 1, 2 ... iterations of each system.
        title: written above.
        spread: half height of a band around each curve, e.g. the standard deviation over seeds, mm.

    Returns:
        The figure.

    Raises:
        ValueError: There is no curve.
    """
    if not errors:
        raise ValueError("no curve to draw")
    lines = lines_for(list(errors))
    figure = new_figure(7.2, 4.6)
    axes = figure.subplots()
    for name, values in errors.items():
        line, steps = lines[name], np.arange(len(values))
        axes.plot(
            *(steps, values),
            **line.options,
            marker="o",
            label=f"{name} ({values[0]:.2f} to {values[-1]:.2f} mm)",
        )
        if spread and name in spread:
            low, high = np.subtract(values, spread[name]), np.add(values, spread[name])
            axes.fill_between(steps, low, high, color=line.color, alpha=0.18, linewidth=0)
    tidy(axes, "iterations", "mean error (mm)")
    axes.set_xticks(range(max(len(values) for values in errors.values())))
    axes.legend(fontsize=10.5, framealpha=0.9, edgecolor="none")
    if title:
        axes.set_title(title, fontsize=13, color=INK)
    return figure
