# SPDX-License-Identifier: MIT
"""Pictures of the method: the cascade, pose-guided windows, the structure of the hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import ConnectionPatch, FancyBboxPatch

from poseren_ext import SKELETONS, ops
from poseren_ext.geometry.camera import xyz_to_uvd
from poseren_ext.geometry.skeleton import FINGERS
from poseren_ext.plotting import draw_crop, draw_skeleton
from poseren_ext.plotting.style import FINGER_COLORS, INK, new_figure
from poseren_ext.synthetic import SyntheticHands, SyntheticSequence
from tools.pictures.material import FRAME, SEED, SEQUENCE, STAGES, Material, canvas, draw_cells, draw_window, plain

HANDS = (0, 6, 22, 40, 10, 43)
"""Indices of the test frames in the first picture of the README."""


def hands(material: Material) -> Figure:
    """Depth crops of six hands, and the joints that the bundled model estimates in them."""
    frames = SyntheticHands(seed=1, split="test").frames(torch.tensor(HANDS))
    crops = ops.depth_crop(frames.depth, frames.center, frames.camera)
    with torch.inference_mode():
        features, initial = material.model.backbone(crops), material.model.init(crops)
        poses = ops.cascade_refine(features, initial, material.model.head, stages=STAGES)[0][-1]
    figure = canvas(12, 4.1)
    for (top, bottom), crop, pose in zip(figure.subplots(2, len(HANDS)).T, crops[:, 0], poses, strict=True):
        for axes in (top, bottom):
            draw_crop(axes, crop.numpy())
        draw_skeleton(bottom, pose.numpy(), material.skeleton)
    return figure


def cascade(material: Material) -> Figure:
    """Figure 2 of the paper: each stage refines the pose on the same features."""
    figure = canvas(12, 5.5)
    axes = figure.subplots(2, 5)
    crop, skeleton = material.crop[0, 0].numpy(), material.skeleton
    truth = material.truth[0]
    draw_crop(axes[0, 0], crop)
    axes[0, 0].set_title("depth crop D", fontsize=12, color=INK)
    axes[1, 0].imshow(material.features[0].mean(0).numpy(), cmap="Blues")
    plain(axes[1, 0])
    axes[1, 0].set_xlabel("features F: computed once", fontsize=11, color=INK)
    for stage, pose in enumerate(material.stages[:, 0]):
        top, bottom = axes[:, stage + 1]
        draw_crop(top, crop)
        draw_skeleton(top, pose.numpy(), skeleton)
        error = 150 * (pose - truth).norm(dim=-1).mean()
        top.set_title(f"$P_{stage}$: {error:.1f} mm", fontsize=12, color=INK)
        _windows_on(bottom, material, crop, pose, material.guided)
        bottom.set_xlabel("the final pose's windows" if stage == 3 else f"windows for $P_{stage + 1}$", fontsize=11)
    for stage in range(4):
        _arrow(figure, axes[0, stage], axes[0, stage + 1], "Init-CNN" if stage == 0 else "R")
    return figure


def _arrow(figure: Figure, start: Any, end: Any, text: str) -> None:
    """Arrow from one axes to the next, with a label."""
    arrow = ConnectionPatch((1.0, 0.5), (0.0, 0.5), "axes fraction", "axes fraction", axesA=start, axesB=end)
    arrow.set(arrowstyle="-|>", mutation_scale=16, color=INK, linewidth=1.6, zorder=10)
    figure.add_artist(arrow)
    box = {"facecolor": "white", "edgecolor": INK, "boxstyle": "round,pad=0.25", "linewidth": 0.8}
    start.text(1.06, 0.62, text, transform=start.transAxes, ha="center", fontsize=10, color=INK, bbox=box, zorder=11)


def _windows_on(axes: Any, material: Material, crop: Any, pose: Any, joints: Any) -> None:
    draw_crop(axes, crop)
    draw_cells(axes)
    for joint, window in zip(joints, ops.roi_windows(pose, joints).tolist(), strict=True):
        draw_window(axes, window, material.color(joint))
        axes.plot(*pose[joint, :2], "o", color=material.color(joint), markersize=4, markeredgecolor="white", zorder=3)


def windows(material: Material) -> Figure:
    """Figure 3 of the paper: one window, all windows, and the windows on the feature map."""
    figure = canvas(12, 4.3)
    left, middle, right = figure.subplots(1, 3)
    crop, pose, guided = material.crop[0, 0].numpy(), material.stages[0, 0], material.guided
    tip = guided[4]
    _windows_on(left, material, crop, pose, (tip,))
    left.set_title(f"one guided joint: {material.skeleton.joints[tip]}", fontsize=12, color=INK)
    left.set_xlabel("48 pixels of the crop = 7x7 cells touched", fontsize=10.5, color=INK)
    _windows_on(middle, material, crop, pose, guided)
    middle.set_title("all 11 guided joints", fontsize=12, color=INK)
    middle.set_xlabel("palm, root and tip of each finger", fontsize=10.5, color=INK)
    right.imshow(material.features[0].mean(0).numpy(), cmap="Blues")
    for joint, (x0, y0, x1, y1) in zip(guided, ops.roi_windows(pose, guided).tolist(), strict=True):
        corners = np.array([(x0, y0), (x1 + 1, y0), (x1 + 1, y1 + 1), (x0, y1 + 1), (x0, y0)]) - 0.5
        right.plot(*corners.T, color=material.color(joint), linewidth=1.6, alpha=0.85)
    right.set(xlim=(-0.6, 12.6), ylim=(12.6, -0.6), xticks=range(12), yticks=range(12))
    right.tick_params(labelsize=8)
    right.set_title("on the 12x12 feature map", fontsize=12, color=INK)
    right.set_xlabel("a window may reach one cell over the edge: zeros", fontsize=10.5, color=INK)
    return figure


def tree(material: Material) -> Figure:
    """Figure 4 of the paper: regions are combined into fingers, and fingers into the pose."""
    figure = new_figure(11, 5.2)
    axes = figure.subplots()
    axes.set(xlim=(-0.3, 11.5), ylim=(-0.5, 3.45))
    axes.axis("off")
    guided, skeleton = material.guided, material.skeleton
    regions = ops.pose_roi_pool(material.features, material.stages[0], guided)[0].mean(1).numpy()
    places = {region: region + 0.5 for region in range(len(guided))}
    for finger, (parts, name) in enumerate(zip(skeleton.tree, FINGERS, strict=True)):
        x, color = 1.9 + 1.85 * finger, FINGER_COLORS[finger]
        for region in parts:
            axes.plot([places[region], x], [0.62, 1.62], color=color, linewidth=1.6, alpha=0.8, zorder=1)
        axes.plot([x, 5.6], [2.0, 2.85], color=color, linewidth=2.2, zorder=1)
        _box(axes, x, 1.8, name, color)
    for region, joint in enumerate(guided):
        x = places[region]
        axes.imshow(regions[region], cmap="Blues", extent=(x - 0.38, x + 0.38, 0.06, 0.62), aspect="auto", zorder=2)
        corners = np.array([(-1, 0), (1, 0), (1, 1), (-1, 1), (-1, 0)]) * (0.38, 0.56) + (x, 0.06)
        axes.plot(*corners.T, color=material.color(joint), linewidth=2.2, zorder=3)
        axes.text(x, -0.02, skeleton.joints[joint].replace(" ", "\n"), ha="center", va="top", fontsize=10, color=INK)
    _box(axes, 5.6, 3.05, "refined pose: 3J numbers", INK)
    for y, text in ((0.34, "regions"), (1.8, "fingers"), (3.05, "hand")):
        axes.text(-0.25, y, text, rotation=90, va="center", ha="center", fontsize=11, color="#666666")
    axes.text(11.45, 1.15, "a layer\nper region", ha="right", va="center", fontsize=10, color="#666666")
    axes.text(11.45, 2.5, "a layer per finger:\npalm, root, tip", ha="right", va="center", fontsize=10, color="#666666")
    return figure


def _box(axes: Any, x: float, y: float, text: str, color: str) -> None:
    width = 0.5 + 0.085 * len(text)
    style = {"boxstyle": "round,pad=0.06", "facecolor": "white", "edgecolor": color, "linewidth": 2, "zorder": 4}
    axes.add_patch(FancyBboxPatch((x - width / 2, y - 0.17), width, 0.34, **style))
    axes.text(x, y, text, ha="center", va="center", fontsize=11, color=INK, zorder=5)


def skeletons(material: Material) -> Figure:
    """The joints of each dataset, with rings around the guided ones."""
    figure = canvas(12, 3.7)
    crop = material.crop[0, 0].numpy()
    for axes, (name, skeleton) in zip(figure.subplots(1, 4), SKELETONS.items(), strict=True):
        sequence = SyntheticSequence(SEED, "test", skeleton=name, number=SEQUENCE)
        frame = sequence.frames(torch.tensor([FRAME]))
        uvd = xyz_to_uvd(frame.xyz, frame.camera)
        pose = ops.normalize_pose(uvd, material.frames.center[:1], frame.camera)[0].numpy()
        draw_crop(axes, crop)
        draw_skeleton(axes, pose, skeleton)
        rings = pose[list(skeleton.guided)]
        axes.scatter(rings[:, 0], rings[:, 1], s=110, facecolors="none", edgecolors=INK, linewidths=1.3, zorder=5)
        axes.set_title(f"{name}: {skeleton.num_joints} joints", fontsize=12, color=INK)
        axes.set_xlabel(f"{skeleton.hand} hands; rings: the 11 guided joints", fontsize=9.5, color=INK)
    return figure


DRAWINGS: dict[str, Callable[[Material], Figure]] = {
    "hands": hands,
    "cascade": cascade,
    "windows": windows,
    "tree": tree,
    "skeletons": skeletons,
}
