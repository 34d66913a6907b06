# SPDX-License-Identifier: MIT
"""Arrays shown by the viewer: points, bones, and the windows on the feature grid. Independent of the browser."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch
from matplotlib.colors import to_rgb

from poseren_ext import ops
from poseren_ext.geometry.camera import uvd_to_xyz
from poseren_ext.geometry.skeleton import Skeleton
from poseren_ext.inference.estimator import Estimator
from poseren_ext.inference.hand_pose import HandPose
from poseren_ext.plotting.hands import shade_depth
from poseren_ext.plotting.style import FINGER_COLORS

Array: TypeAlias = npt.NDArray[Any]

MOST_POINTS = 80_000
"""Largest number of points that a browser rotates smoothly."""
CELL = 32
"""Pixels of the picture per cell of the feature grid."""
_COLORS = np.array([[round(255 * part) for part in to_rgb(color)] for color in FINGER_COLORS], np.uint8)
_NEAR, _FAR = np.array([4, 48, 98], np.float32), np.array([176, 192, 222], np.float32)
_SIDE_COLORS = {"left": (24, 90, 200), "right": (214, 92, 20)}
_GHOST = np.array([150, 150, 150], np.uint8)


@dataclass(frozen=True)
class ShownHand:
    """A hand of a frame.

    Attributes:
        pose: with all stages, tensors without a batch axis.
        name: number of its track, or of the hand in its frame.
        score: of the detection, 0 to 1.
        side_probability: probability of its side; None if it is not known.
    """

    pose: HandPose
    name: str
    score: float
    side_probability: float | None = None

    @property
    def label(self) -> str:
        """Side, name and predicted error in a few characters."""
        error = self.pose.error_mm
        return f"{self.pose.hand[0]} {self.name}" + ("" if error is None else f", ±{float(error):.0f} mm")

    @property
    def color(self) -> tuple[int, int, int]:
        """Colour of the hand's cube: its side."""
        return _SIDE_COLORS[self.pose.hand[0]]


@dataclass(frozen=True)
class View:
    """One frame to show.

    Attributes:
        depth: [H, W] in stored units.
        hands: the hands in it.
        note: text shown with the frame.
    """

    depth: torch.Tensor
    hands: tuple[ShownHand, ...]
    note: str


def cloud(view: View, estimator: Estimator, *, hand_only: bool = False) -> tuple[Array, Array]:
    """The depth as coloured points.

    Args:
        view: the frame.
        estimator: its camera, unit and cube.
        hand_only: omit points outside the cubes of the hands.

    Returns:
        tuple[Array, Array]: Points float32 [N, 3] in metres, camera frame (x right, y down, z forward), and their
            colours uint8 [N, 3]: near is dark blue, far is pale, so that the colours of the fingers stand out. At most
            MOST_POINTS, evenly sampled.
    """
    depth = view.depth.float().numpy() * np.float32(estimator.depth_unit)
    rows, columns = np.nonzero(np.isfinite(depth) & (depth > 0))
    uvd = np.stack([columns, rows, depth[rows, columns]], -1).astype(np.float32)
    points = uvd_to_xyz(uvd, estimator.camera) if len(uvd) else uvd
    kept = np.ones(len(points), np.bool_)
    if view.hands:
        near_hand = np.zeros(len(points), np.bool_)
        for hand in view.hands:
            near_hand |= (np.abs(points - middle(hand.pose, estimator)) <= estimator.cube).all(-1)
        # Every fourth pixel of a hand, so that the skeleton inside it is visible.
        kept = np.where(near_hand, (rows % 2 == 0) & (columns % 2 == 0), not hand_only)
    colors = _depth_colors(points[:, 2])[kept]
    points = points[kept] / np.float32(1000)
    every = max(1, -(-len(points) // MOST_POINTS))
    return points[::every], colors[::every]


def middle(pose: HandPose, estimator: Estimator) -> Array:
    """Centre of a hand's cube [3], mm, camera frame."""
    center: Array = uvd_to_xyz(torch.as_tensor(pose.center), estimator.camera).numpy()
    return center


def cube_edges(pose: HandPose, estimator: Estimator) -> Array:
    """The edges of a hand's cube as segments [12, 2, 3] in metres: what the detection gave to the model."""
    corners = np.array([[x, y, z] for x in (-1, 1) for y in (-1, 1) for z in (-1, 1)], np.float32)
    ends = [(i, i | 1 << axis) for i in range(8) for axis in range(3) if not i >> axis & 1]
    edges: Array = (middle(pose, estimator) + estimator.cube * corners[np.array(ends)]) / np.float32(1000)
    return edges


def _depth_colors(depth: Array) -> Array:
    if not len(depth):
        return np.zeros((0, 3), np.uint8)
    near, far = np.percentile(depth, (1, 99))
    share = np.clip((depth - near) / max(far - near, 1e-3), 0, 1)[:, None]
    colors: Array = (_NEAR + share * (_FAR - _NEAR)).astype(np.uint8)
    return colors


def stages_xyz(pose: HandPose, estimator: Estimator) -> Array:
    """The joints of all stages in metres [T+1, J, 3], the last ones smoothed if the pose is; [1, J, 3] without."""
    uvd = torch.as_tensor(pose.uvd)[None] if pose.stages is None else torch.as_tensor(pose.stages)
    xyz: Array = uvd_to_xyz(uvd, estimator.camera, check=False).numpy() / np.float32(1000)
    xyz[-1] = torch.as_tensor(pose.joints).numpy() / np.float32(1000)
    return xyz


def bones(joints: Array, skeleton: Skeleton, *, ghost: bool = False) -> tuple[Array, Array]:
    """Bones of a skeleton as segments [N, 2, 3] and colours uint8 [N, 2, 3]: one colour per finger, or all grey."""
    pairs = np.array(skeleton.bones)
    groups = np.minimum(*(np.array(skeleton.finger_of)[pairs[:, end]] for end in (0, 1)))
    colors = np.broadcast_to(_GHOST, (len(pairs), 3)) if ghost else _COLORS[groups]
    return joints[pairs], np.repeat(colors[:, None], 2, 1)


def joint_colors(skeleton: Skeleton) -> Array:
    """A colour for each joint, uint8 [J, 3]."""
    return _COLORS[list(skeleton.finger_of)]


def windows_picture(view: View, estimator: Estimator, stage: int, hand: int = 0) -> Array:
    """The crop under the feature grid, and the windows that the given stage's pose puts on it.

    Windows moved by the last stage are thick: only their regions are recomputed.

    Args:
        view: the frame; the grid is empty if it has no such hand.
        estimator: the model whose grid and guided joints are drawn.
        stage: whose pose, 0 for the initial one.
        hand: index of the hand.

    Returns:
        uint8 RGB [12 * CELL, 12 * CELL, 3] for a grid of 12 x 12 cells.
    """
    head = estimator.model.config.refine
    cells = head.image_size // 8
    size = cells * CELL
    if hand >= len(view.hands):
        return _grid(np.full((size, size, 3), 255, np.uint8), cells)
    pose = view.hands[hand].pose
    center = torch.as_tensor(pose.center)[None]
    crop = ops.depth_crop(
        view.depth[None],
        center,
        estimator.camera,
        cube=estimator.cube,
        size=head.image_size,
        depth_unit=estimator.depth_unit,
        transform=_mirror(pose, estimator),
    )
    grey = cv2.resize(np.uint8(255 * shade_depth(crop[0, 0].numpy())), (size, size), interpolation=cv2.INTER_CUBIC)
    picture = _grid(np.repeat(grey[..., None], 3, -1), cells)
    poses = _normalized(pose, center, estimator)
    stage = min(stage, len(poses) - 1)
    if head.joints:
        _draw_windows(picture, poses, stage, estimator)
    for joint, color in zip(poses[stage].numpy(), joint_colors(pose.skeleton), strict=True):
        where = [round(float(value + 1) * (size - 1) / 2) for value in joint[:2]]
        cv2.circle(picture, where, 4, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(picture, where, 3, color.tolist(), -1, cv2.LINE_AA)
    return picture


def _grid(picture: Array, cells: int) -> Array:
    for line in range(1, cells):
        picture[line * CELL, :] = picture[:, line * CELL] = (215, 215, 215)
    return picture


def _mirror(pose: HandPose, estimator: Estimator) -> torch.Tensor | None:
    """The transform [1, 2, 3] that mirrors the crop if the hand is not the one of the model; else None."""
    if pose.hand[0] == estimator.model.config.hand:
        return None
    return torch.tensor([[[-1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]], dtype=torch.float32)


def _normalized(pose: HandPose, center: torch.Tensor, estimator: Estimator) -> torch.Tensor:
    """Normalised poses of all stages [T+1, J, 3]."""
    uvd = torch.as_tensor(pose.uvd)[None] if pose.stages is None else torch.as_tensor(pose.stages)
    poses = ops.normalize_pose(uvd, center.expand(len(uvd), -1).contiguous(), estimator.camera, cube=estimator.cube)
    return poses if _mirror(pose, estimator) is None else poses * poses.new_tensor([-1.0, 1.0, 1.0])


def _draw_windows(picture: Array, poses: torch.Tensor, stage: int, estimator: Estimator) -> None:
    head, skeleton = estimator.model.config.refine, estimator.model.skeleton
    windows = ops.roi_windows(poses, head.joints, image_size=head.image_size, roi_size=head.roi_size).numpy()
    for region, joint in enumerate(head.joints):
        left, top, right, bottom = (int(edge) for edge in windows[stage, region])
        if left < 0:
            continue  # the window of an invalid (NaN) joint
        moved = stage == 0 or bool((windows[stage, region] != windows[stage - 1, region]).any())
        color = _COLORS[skeleton.finger_of[joint]].tolist()
        # Slightly offset, so that coinciding windows are all visible.
        inset = 2 + 2 * (region % 6)
        first = (left * CELL + inset, top * CELL + inset)
        last = ((right + 1) * CELL - 1 - inset, (bottom + 1) * CELL - 1 - inset)
        cv2.rectangle(picture, first, last, color, 3 if moved else 1, cv2.LINE_AA)
