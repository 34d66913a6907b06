# SPDX-License-Identifier: MIT
"""The picture of `poseren doctor`: valid depth, the detected hand, and the crop that the network sees."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from poseren_ext.plotting.hands import draw_crop
from poseren_ext.plotting.style import INK, Array, Axes, new_figure

if TYPE_CHECKING:
    from poseren_ext.inference.diagnosis import Checkup

_CENTER, _HAND, _VALID = "#D55E00", "#0072B2", "#BBBBBB"
_MARKS = {"fine": "", "note": "warning", "fault": "error"}


def plot_checkups(checkups: Sequence[Checkup], *, depth_unit: float = 1.0, cube: float = 150.0) -> Figure:
    """One row per frame: depth with centre and cube; valid pixels and the hand; histogram of depths; the crop.

    Args:
        checkups: results of `poseren_ext.inference.diagnosis.examine`.
        depth_unit: mm per stored unit, as the user gave it.
        cube: half edge of the cube, mm.

    Returns:
        The figure.

    Raises:
        ValueError: checkups is empty.
    """
    if not checkups:
        raise ValueError("no frame to draw: checkups is empty")
    figure = new_figure(15.5, 3.5 * len(checkups) + 0.4)
    axes = figure.subplots(len(checkups), 4, squeeze=False, width_ratios=(1.35, 1.35, 1.1, 1))
    for row, checkup in zip(axes, checkups, strict=True):
        # If no hand is detected with the given unit, draw with the recommended one.
        unit = checkup.region.unit if checkup.region else depth_unit
        depth = np.asarray(checkup.depth, np.float32) * np.float32(unit)
        depth = np.where(np.isfinite(depth) & (depth > 0), depth, np.nan)
        advised = f", read with --depth-unit {unit:g}" if unit != depth_unit else ""
        _draw_depth(row[0], depth, checkup, cube)
        row[0].set_title(f"depth, mm{advised}", fontsize=11, color=INK)
        row[0].set_ylabel(f"{checkup.name}\n{_MARKS[checkup.kind]}".strip(), fontsize=10, color=INK)
        _draw_valid(row[1], depth, checkup)
        _draw_depths(row[2], depth, checkup, cube)
        _draw_seen(row[3], checkup)
    return figure


def _draw_depth(axes: Axes, depth: Array, checkup: Checkup, cube: float) -> None:
    from poseren_ext.inference.diagnosis import window

    seen = depth[np.isfinite(depth)]
    low, high = np.percentile(seen, (1, 99)) if seen.size else (0, 1)
    if checkup.region is not None:  # the colours are spent on the hand, not on the room behind it
        middle = checkup.region.center[2]
        low, high = middle - cube, middle + cube
    image = axes.imshow(np.ma.masked_invalid(depth), cmap="viridis_r", vmin=low, vmax=max(high, low + 1))
    axes.figure.colorbar(image, ax=axes, shrink=0.85, pad=0.02).ax.tick_params(labelsize=8)
    if checkup.region is not None:
        left, top, right, bottom = window(checkup.region, cube)
        box = Rectangle((left, top), right - left, bottom - top, fill=False, edgecolor=_CENTER, linewidth=2)
        axes.add_patch(box)
        axes.plot(*checkup.region.center[:2], "+", color=_CENTER, markersize=13, markeredgewidth=2.4)
    axes.set(xlim=(-0.5, depth.shape[1] - 0.5), ylim=(depth.shape[0] - 0.5, -0.5))
    axes.tick_params(labelsize=8)


def _draw_valid(axes: Axes, depth: Array, checkup: Checkup) -> None:
    picture = np.ones((*depth.shape, 3))
    valid = np.isfinite(depth)
    picture[valid] = to_rgb(_VALID)
    if checkup.region is not None:
        picture[checkup.region.mask & valid] = to_rgb(_HAND)
    axes.imshow(picture, interpolation="nearest")
    axes.tick_params(labelsize=8)
    hand = "blue: hand" if checkup.region is not None else "no hand found"
    axes.set_title(f"grey: has depth; {hand}", fontsize=11, color=INK)


def _draw_depths(axes: Axes, depth: Array, checkup: Checkup, cube: float) -> None:
    seen = depth[np.isfinite(depth)]
    if seen.size:
        far = float(np.percentile(seen, 99.5))
        edges = np.linspace(min(0.0, float(seen.min())), max(far, 1.0), 80)
        axes.hist(seen.clip(max=edges[-1]), bins=edges, color=_VALID)
        if checkup.region is not None:
            axes.hist(depth[checkup.region.mask & np.isfinite(depth)], bins=edges, color=_HAND)
    if checkup.region is not None:
        middle = checkup.region.center[2]
        axes.axvspan(middle - cube, middle + cube, color=_CENTER, alpha=0.16, linewidth=0)
        axes.axvline(middle, color=_CENTER, linewidth=2)
    axes.set_yticks([])
    axes.tick_params(labelsize=8)
    axes.set_title("depth histogram, mm; orange: the cube", fontsize=11, color=INK)
    for side in ("left", "right", "top"):
        axes.spines[side].set_visible(False)


def _draw_seen(axes: Any, checkup: Checkup) -> None:
    axes.set_title("crop for the network", fontsize=11, color=INK)
    if checkup.region is not None and np.isfinite(checkup.region.crop).all():
        draw_crop(axes, checkup.region.crop)
        return
    axes.set_axis_off()
    axes.text(0.5, 0.5, "no crop:\nno hand found", ha="center", va="center", fontsize=12, color=INK)
