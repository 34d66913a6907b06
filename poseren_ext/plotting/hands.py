# SPDX-License-Identifier: MIT
"""Pictures of hands: skeletons on depth crops, the cascade's stages (figure 13), systems side by side (figure 14)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from poseren_ext.geometry.skeleton import Skeleton
from poseren_ext.plotting.style import (
    FINGER_COLORS,
    INK,
    TRUTH_COLOR,
    Array,
    Axes,
    as_array,
    lines_for,
    new_figure,
    tidy,
)

_CELL = 2.1  # inches per hand


def shade_depth(crop: Array) -> Array:
    """A depth crop as a picture: nearer is darker, slopes are shaded, background is white.

    Args:
        crop: normalised depth [S, S], -1 (near) to 1 (background).

    Returns:
        Grey [S, S], 0 (black) to 1 (white), never so dark that a skeleton could not be seen on it.
    """
    hand = np.isfinite(crop) & (crop < 0.99)
    if not hand.any():
        return np.ones_like(crop)
    near, far = np.percentile(crop[hand], (1, 99))
    depth = np.clip((np.where(hand, crop, far) - near) / max(far - near, 1e-3), 0, 1)
    rows, columns = np.gradient(depth)
    relief = np.clip((rows + columns) * 1.6, -0.16, 0.16)  # lit from the upper left
    return np.where(hand, np.clip(0.58 + 0.26 * depth - relief, 0.38, 0.94), 1.0)


def draw_crop(axes: Axes, crop: Array) -> None:
    """Show a crop [S, S] so that data coordinates are the normalised x, y in [-1, 1]."""
    half = 1 + 1 / (crop.shape[-1] - 1)  # the corner pixels' centres lie at -1 and 1
    axes.imshow(
        shade_depth(crop), cmap="gray", vmin=0, vmax=1, extent=(-half, half, half, -half), interpolation="bicubic"
    )
    axes.set_xlim(-half, half)
    axes.set_ylim(half, -half)
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set_color("#BBBBBB")


def draw_skeleton(axes: Axes, pose: Array, skeleton: Skeleton, *, size: float = 1.0) -> None:
    """Bones and joints of one hand, each finger in its colour.

    Args:
        axes: where to draw; its data coordinates are those of the pose.
        pose: joints [J, 2 or 3]; joints that are not finite are left out.
        skeleton: bones and finger groups.
        size: scale of lines and dots.
    """
    for first, second in skeleton.bones:
        color = FINGER_COLORS[min(skeleton.finger_of[first], skeleton.finger_of[second])]
        ends = pose[[first, second]]
        # A white edge keeps a bone readable over the hand's own grey.
        axes.plot(ends[:, 0], ends[:, 1], color="white", linewidth=3.4 * size, solid_capstyle="round", zorder=2)
        axes.plot(ends[:, 0], ends[:, 1], color=color, linewidth=2.0 * size, solid_capstyle="round", zorder=3)
    colors = [FINGER_COLORS[finger] for finger in skeleton.finger_of]
    axes.scatter(pose[:, 0], pose[:, 1], s=20 * size**2, c=colors, edgecolors="white", linewidths=0.8 * size, zorder=4)


def _grid(rows: int, columns: int, header: float = 0.45) -> tuple[Figure, Array]:
    figure = new_figure(_CELL * columns + 0.5, _CELL * rows + header)
    return figure, figure.subplots(rows, columns, squeeze=False)


def _hand(axes: Axes, crop: Array, pose: Array, skeleton: Skeleton, note: str | None = None) -> None:
    draw_crop(axes, crop)
    draw_skeleton(axes, pose, skeleton)
    if note:
        axes.text(
            *(0.97, 0.03, note),
            transform=axes.transAxes,
            ha="right",
            va="bottom",
            fontsize=9,
            color=INK,
            zorder=5,
            bbox={"facecolor": "white", "alpha": 0.8, "edgecolor": "none", "pad": 1.5},
        )


def _checked(crops: Any, poses: Any, skeleton: Skeleton, what: str) -> tuple[Array, Array]:
    crops, poses = as_array(crops), as_array(poses)
    if crops.ndim == 4:
        crops = crops[:, 0]
    if crops.ndim != 3 or crops.shape[-1] < 2:
        raise ValueError(f"crops have shape {list(crops.shape)}; expected [N, S, S] or [N, 1, S, S]")
    expected = [len(crops), len(skeleton.joints)]
    if list(poses.shape[-3:-1]) != expected:
        raise ValueError(f"{what} has shape {list(poses.shape)}; expected {expected} frames and joints before x, y")
    return crops, poses


def plot_cascade(
    crops: Any,
    stages: Any,
    skeleton: Skeleton,
    *,
    truth: Any = None,
    errors: Any = None,
    cube: float = 150.0,
    labels: Sequence[str] = (),
    titles: Sequence[str] = (),
) -> Figure:
    """The paper's figure 13: one row per frame; columns: initial pose, stage 1 to T, and the truth where it is known.

    Args:
        crops: depth crops [N, 1, S, S] or [N, S, S], -1..1.
        stages: normalised poses [T+1, N, J, 3].
        skeleton: their joints.
        truth: normalised labels [N, J, 3]; the mean joint error is then written into the picture of each pose.
        errors: these errors [T+1, N] in mm, measured with the camera; by default they are measured in the
            coordinates of the cube, in which every joint is as far away as the centre.
        cube: half edge of the crop's cube, mm; it converts normalised errors to mm.
        labels: text next to each row.
        titles: text above each of the T+1 columns; default: the names of the stages.

    Returns:
        The figure.

    Raises:
        ValueError: the shapes do not match, or the number of titles is not T+1.
    """
    crops, stages = _checked(crops, stages, skeleton, "stages")
    if stages.ndim != 4:
        raise ValueError(f"stages has shape {list(stages.shape)}; expected [T+1, N, J, 3]")
    titles = list(titles) or ["initial pose", *(f"stage {t}" for t in range(1, len(stages)))]
    if len(titles) != len(stages):
        raise ValueError(f"{len(titles)} titles for {len(stages)} stages; expected one each")
    columns = list(stages)
    written: list[Array | None] = [None] * len(columns)
    if truth is not None:
        _, truth = _checked(crops, truth, skeleton, "truth")
        written = [cube * np.linalg.norm(pose - truth, axis=-1).mean(-1) for pose in columns]
    if errors is not None:
        errors = as_array(errors)
        if errors.shape != stages.shape[:2]:
            raise ValueError(f"errors have shape {list(errors.shape)}; expected {list(stages.shape[:2])}")
        written = list(errors)
    if truth is not None:
        titles, columns, written = [*titles, "truth"], [*columns, truth], [*written, None]
    figure, axes = _grid(len(crops), len(columns))
    for row, crop in enumerate(crops):
        for column, pose in enumerate(columns):
            error = written[column]
            _hand(axes[row, column], crop, pose[row], skeleton, None if error is None else f"{error[row]:.1f} mm")
        if row < len(labels):
            axes[row, 0].set_ylabel(labels[row], fontsize=10, color=INK)
    for axis, title in zip(axes[0], titles, strict=True):
        axis.set_title(title, fontsize=12, color=INK)
    return figure


def plot_qualitative(crops: Any, poses: Mapping[str, Any], skeleton: Skeleton, *, title: str | None = None) -> Figure:
    """The paper's figure 14: one column per frame, one row per system, with its joints on the same crops.

    Args:
        crops: depth crops [N, 1, S, S] or [N, S, S], -1..1.
        poses: normalised joints [N, J, 3] of each system, top row first.
        skeleton: their joints.
        title: written above.

    Returns:
        The figure.

    Raises:
        ValueError: The shapes do not match, or there is no system.
    """
    if not poses:
        raise ValueError("no system to draw: poses is empty")
    rows = {name: _checked(crops, pose, skeleton, name) for name, pose in poses.items()}
    figure, axes = _grid(len(rows), len(next(iter(rows.values()))[0]))
    for row, (name, (images, pose)) in enumerate(rows.items()):
        for column, image in enumerate(images):
            _hand(axes[row, column], image, pose[column], skeleton)
        axes[row, 0].set_ylabel(name, fontsize=12, color=INK)
    if title:
        figure.suptitle(title, fontsize=13, color=INK)
    return figure


def plot_skeletons_3d(joints: Mapping[str, Any], skeleton: Skeleton) -> Figure:
    """Hands in space: as the camera sees them, from the side, from above, and at an angle.

    Args:
        joints: joints [J, 3] in mm (camera frame) of each system. One hand is drawn in its fingers' colours, several in
            one colour each ("truth" in black).
        skeleton: bones.

    Returns:
        The figure.

    Raises:
        ValueError: there is no hand, the number of joints is not the skeleton's, or a joint is not finite.
    """
    hands = {name: as_array(pose) for name, pose in joints.items()}
    for name, hand in hands.items():
        if hand.shape != (len(skeleton.joints), 3) or not np.isfinite(hand).all():
            raise ValueError(f"{name}: expected finite joints [{len(skeleton.joints)}, 3], given {list(hand.shape)}")
    if not hands:
        raise ValueError("no hand to draw: joints is empty")
    every = np.concatenate(list(hands.values()))
    middle, reach = (every.max(0) + every.min(0)) / 2, np.ptp(every, axis=0).max() / 2 * 1.1
    centered = {name: hand - middle for name, hand in hands.items()}
    lines = lines_for([name for name in hands if name != "truth"])
    colors = {name: lines[name].color if name in lines else TRUTH_COLOR for name in hands} if len(hands) > 1 else {}

    figure = new_figure(15.6, 4.6)
    for place, (title, across, down) in enumerate((("camera", 0, 1), ("side", 2, 1), ("above", 0, 2)), start=1):
        axes = figure.add_subplot(1, 4, place)
        for name, hand in centered.items():
            _draw_flat(axes, hand[:, (across, down)], skeleton, colors.get(name))
        tidy(axes, f"{'xyz'[across]} (mm)", f"{'xyz'[down]} (mm)")
        # y points down in the camera frame; seen from above, what is near lies below.
        low, high = (reach, -reach) if down == 1 else (-reach, reach)
        axes.set(xlim=(-reach, reach), ylim=(low, high), aspect="equal")
        axes.set_title(f"from the {title}" if title != "above" else "from above", fontsize=12, color=INK)
    _draw_oblique(figure.add_subplot(1, 4, 4, projection="3d"), centered, skeleton, colors, reach)
    if colors:
        handles = [Line2D([], [], color=color, linewidth=2.5, label=name) for name, color in colors.items()]
        figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), fontsize=11, frameon=False)
    return figure


def _draw_flat(axes: Axes, hand: Array, skeleton: Skeleton, color: str | None) -> None:
    if color is None:
        draw_skeleton(axes, hand, skeleton)
        return
    for bone in skeleton.bones:
        axes.plot(hand[list(bone), 0], hand[list(bone), 1], color=color, linewidth=1.8, solid_capstyle="round")
    axes.scatter(hand[:, 0], hand[:, 1], s=14, color=color)


def _draw_oblique(
    axes: Axes, hands: Mapping[str, Array], skeleton: Skeleton, colors: Mapping[str, str], reach: float
) -> None:
    """All hands in one 3D box: x to the right, depth into the picture, y (down in the camera frame) turned up."""
    for name, hand in hands.items():
        x, y, z = hand.T
        for first, second in skeleton.bones:
            ends = [first, second]
            color = colors.get(name) or FINGER_COLORS[min(skeleton.finger_of[first], skeleton.finger_of[second])]
            axes.plot(x[ends], z[ends], -y[ends], color=color, linewidth=2.0)
        axes.scatter(
            x, z, -y, s=14, depthshade=False, c=colors.get(name) or [FINGER_COLORS[f] for f in skeleton.finger_of]
        )
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), zlim=(-reach, reach))
    axes.set_box_aspect((1, 1, 1), zoom=1.15)
    axes.view_init(18, -60)
    axes.set_proj_type("ortho")
    axes.tick_params(labelsize=7, pad=-3)
    axes.locator_params(nbins=4)
    axes.set_title("at an angle", fontsize=12, color=INK)
