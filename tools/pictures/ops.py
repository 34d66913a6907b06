# SPDX-License-Identifier: MIT
"""One picture per op: inputs and outputs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from poseren_ext import ops
from poseren_ext.plotting import draw_crop, draw_skeleton
from poseren_ext.plotting.style import INK, new_figure, tidy
from poseren_ext.reference import moved_windows
from tools.pictures.material import Material, as_grey, canvas, plain

NEAR, FAR = 300.0, 1500.0


def hand_center(material: Material) -> Figure:
    """Valid pixels, their centroid, and the centroid inside the cube."""
    frames, camera = material.frames, material.frames.camera[:1]
    depth, far = frames.depth[:1], material.far
    first, _ = ops.hand_center(depth, near=1, far=far)
    refined, count = ops.hand_center(depth, near=1, far=far, iterations=3, camera=camera)
    figure = canvas(9, 4.2)
    whole, near = figure.subplots(1, 2, width_ratios=(1.33, 1))
    for axes in (whole, near):
        axes.imshow(as_grey(depth[0]), cmap="Greys_r", vmin=NEAR, vmax=FAR)
        valid = (depth[0] >= 1) & (depth[0] <= far)
        axes.imshow(np.where(valid, 1.0, np.nan), cmap="Greens", vmin=0, vmax=1.6, alpha=0.75)
        _cube(axes, refined[0], camera[0])
        axes.plot(*first[0, :2], "x", color="#D55E00", markersize=11, markeredgewidth=2.5, label="mean of all")
        axes.plot(*refined[0, :2], "o", color="#0072B2", markersize=8, label="mean in the cube, 3 times")
    plain(whole, f"valid: 1 to {far:.0f} mm (green)")
    plain(near, f"center {', '.join(f'{value:.0f}' for value in refined[0])}; count {int(count[0])}")
    half = float(190 * camera[0, 0] / refined[0, 2])
    near.set_xlim(float(refined[0, 0]) - half, float(refined[0, 0]) + half)
    near.set_ylim(float(refined[0, 1]) + half, float(refined[0, 1]) - half)
    near.legend(loc="lower left", fontsize=9)
    return figure


def _cube(axes: Any, center: Any, camera: Any, cube: float = 150.0) -> None:
    """The square that the cube around a centre covers in the frame."""
    u, v, z = center.tolist()
    width, height = float(cube * camera[0] / z), float(cube * camera[1] / z)
    axes.add_patch(
        Rectangle((u - width, v - height), 2 * width, 2 * height, fill=False, color="#0072B2", linewidth=1.6)
    )


def depth_crop(material: Material) -> Figure:
    """A frame with the cube, and crops of it: plain, turned, and with each policy for holes."""
    frames = material.frames
    depth, center, camera = frames.depth[:1], frames.center[:1], frames.camera[:1]
    figure = canvas(12, 3.4)
    axes = figure.subplots(1, 5, width_ratios=(1.33, 1, 1, 1, 1))
    axes[0].imshow(as_grey(depth[0]), cmap="Greys_r", vmin=NEAR, vmax=FAR)
    _cube(axes[0], center[0], camera[0])
    plain(axes[0], "frame and cube")
    turn = math.radians(30)
    rotation = torch.tensor([[math.cos(turn), -math.sin(turn), 0.0], [math.sin(turn), math.cos(turn), 0.0]])
    holes = depth.clone()
    column, row = (int(value) for value in center[0, :2])
    holes[0, row - 12 : row + 12, column - 12 : column + 12] = 0
    crops = {
        "crop": ops.depth_crop(depth, center, camera),
        "transform: 30 degrees": ops.depth_crop(depth, center, camera, transform=rotation[None]),
        'hole, "background"': ops.depth_crop(holes, center, camera),
        "hole, invalid=None": ops.depth_crop(holes, center, camera, invalid=None),
    }
    for axis, (title, crop) in zip(axes[1:], crops.items(), strict=True):
        axis.imshow(crop[0, 0], cmap="Greys_r", vmin=-1, vmax=1)
        plain(axis, title)
    return figure


def normalize_pose(material: Material) -> Figure:
    """Joints in the frame's pixels, and the same joints in the cube's coordinates, from the front and from the side."""
    frames, skeleton = material.frames, material.skeleton
    figure = canvas(12, 4.2)
    left, middle, right = figure.subplots(1, 3, width_ratios=(1.25, 1, 1))
    left.imshow(as_grey(frames.depth[0]), cmap="Greys_r", vmin=NEAR, vmax=FAR)
    draw_skeleton(left, frames.uvd[0].numpy(), skeleton, size=0.6)
    _cube(left, frames.center[0], frames.camera[0])
    left.set_title("uvd: pixels and mm", fontsize=12, color=INK)
    left.set_xlabel("u")
    left.set_ylabel("v")
    pose = material.truth[0].numpy()
    for axes, third, name in ((middle, 1, "y: down"), (right, 2, "z: away from the camera")):
        if third == 1:
            draw_crop(axes, material.crop[0, 0].numpy())
        draw_skeleton(axes, pose[:, [0, third]], skeleton)
        axes.set(xlim=(-1, 1), ylim=(1, -1), aspect="equal", xticks=(-1, 0, 1), yticks=(-1, 0, 1))
        axes.set_xlabel("x: right")
        axes.set_ylabel(name)
    middle.set_title("normalised: the cube from the front", fontsize=12, color=INK)
    right.set_title("and from above", fontsize=12, color=INK)
    return figure


def roi_windows(_: Material) -> Figure:
    """First and last cell of a window over the joint's place."""
    x = torch.linspace(-1.15, 1.15, 4001)
    pose = torch.stack([x, x], -1)[:, None]
    first, _, last, _ = ops.roi_windows(pose, [0])[:, 0].unbind(-1)
    figure = new_figure(8.4, 4)
    axes = figure.subplots()
    axes.fill_between(x, first - 0.5, last + 0.5, step="mid", color="#56B4E9", alpha=0.35, linewidth=0)
    axes.step(x, first, where="mid", color="#0072B2", linewidth=2, label="first cell")
    axes.step(x, last, where="mid", color="#D55E00", linewidth=2, label="last cell")
    axes.plot(x, (x + 1) * 48 / 8 - 0.5, color=INK, linewidth=1, linestyle="--", label="the joint itself")
    axes.axhline(11.5, color="#888888", linewidth=1)
    axes.text(-1.12, 11.65, "cell 12 lies outside the map and pools to 0", fontsize=9, color="#555555")
    tidy(axes, "normalised x of the joint", "feature cell")
    axes.set(xlim=(-1.15, 1.15), ylim=(-0.6, 12.9), yticks=range(13))
    axes.legend(loc="lower right", fontsize=10)
    return figure


def pose_roi_pool(material: Material) -> Figure:
    """A channel of the features, and the region of one joint pooled in both modes."""
    joint = material.guided[4]
    pose = material.stages[0]
    channel = int(material.features[0, :, 1:-1, 1:-1].std((1, 2)).argmax())
    figure = canvas(11, 3.9)
    axes = figure.subplots(1, 3)
    axes[0].imshow(material.features[0, channel], cmap="Blues")
    x0, y0, x1, y1 = ops.roi_windows(pose, [joint])[0, 0].tolist()
    axes[0].add_patch(
        Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0 + 1, y1 - y0 + 1, fill=False, color="#D55E00", linewidth=2)
    )
    place = (pose[0, joint, :2] + 1) * 48 / 8 - 0.5
    corner = place - 3
    axes[0].add_patch(Rectangle(corner.tolist(), 6, 6, fill=False, color="#009E73", linewidth=2, linestyle="--"))
    axes[0].plot(*place, "o", color=INK, markersize=6)
    axes[0].set(xlim=(-1.6, 12.6), ylim=(12.6, -1.6))
    plain(axes[0], "features [12, 12], one channel")
    for axis, mode, color in ((axes[1], "max", "#D55E00"), (axes[2], "align", "#009E73")):
        region = ops.pose_roi_pool(material.features, pose, [joint], mode=mode)[0, 0, channel]  # type: ignore[arg-type]
        axis.imshow(region, cmap="Blues", vmin=0, vmax=float(material.features[0, channel].max()))
        plain(axis, f'mode "{mode}": region [7, 7]')
        for spine in axis.spines.values():
            spine.set(color=color, linewidth=2.5)
    axes[1].set_xlabel("the cells of the window, as they are", fontsize=10.5)
    axes[2].set_xlabel("bilinear samples around the joint itself", fontsize=10.5)
    return figure


def cascade_refine(material: Material) -> Figure:
    """Which windows moved before each stage: all else is not computed again."""
    guided, skeleton = material.guided, material.skeleton
    moved = moved_windows(material.stages, material.model.head.config)
    figure = new_figure(11, 3.6)
    for stage, (axes, work) in enumerate(zip(figure.subplots(1, len(moved), sharey=True), moved, strict=True), 1):
        axes.imshow(work, cmap="Oranges", vmin=0, vmax=1.5, aspect="auto")
        axes.set_xticks(range(len(guided)), [skeleton.joints[joint] for joint in guided], rotation=60, ha="right")
        axes.set_yticks(range(len(work)), [f"sample {row}" for row in range(len(work))])
        axes.set_xticks(np.arange(len(guided) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(work) + 1) - 0.5, minor=True)
        axes.grid(which="minor", color="white", linewidth=2)
        axes.tick_params(which="both", length=0, labelsize=9)
        axes.set_title(f"stage {stage}: {100 * work.float().mean():.0f} % of the regions", fontsize=11, color=INK)
    return figure


DRAWINGS: dict[str, Callable[[Material], Figure]] = {
    "hand_center": hand_center,
    "depth_crop": depth_crop,
    "normalize_pose": normalize_pose,
    "roi_windows": roi_windows,
    "pose_roi_pool": pose_roi_pool,
    "cascade_refine": cascade_refine,
}
