# SPDX-License-Identifier: MIT
"""All hands of a batch of frames: a ragged result, one row per hand."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from poseren_ext._utils.arrays import like
from poseren_ext.inference.depth_units import check_distances
from poseren_ext.inference.hand_detection import HandDetection, find_hands
from poseren_ext.inference.hand_pose import BATCH_AXES, Array, HandPose
from poseren_ext.inference.input_frames import (
    FARTHEST_HAND,
    NEAREST_HAND,
    check_camera,
    check_units,
    read_frames,
)

if TYPE_CHECKING:
    from poseren_ext.inference.estimator import Estimator


@dataclass(frozen=True)
class FrameHands:
    """The hands of B frames, N in all: `hands[i]` is the pose of the hands of frame i, `len(hands)` is B.

    Attributes:
        pose: joints, sides and predicted errors of all hands [N, ...], by frame and, within a frame, in the order of
            :func:`find_hands`.
        frame: int64 [N], the frame of each hand.
        score: float32 [N], score of each detection, 0 to 1.
        frames: B.
    """

    pose: HandPose
    frame: npt.NDArray[np.int64]
    score: npt.NDArray[np.float32]
    frames: int

    def __len__(self) -> int:
        return self.frames

    def __getitem__(self, index: int) -> HandPose:
        """The hands of one frame [n, ...]; n is 0 if it has none.

        Raises:
            IndexError: There is no such frame.
        """
        if not -self.frames <= index < self.frames:
            raise IndexError(f"there is no frame {index}: there are {self.frames}")
        first, last = np.searchsorted(self.frame, (index % self.frames, index % self.frames + 1))
        return _rows(self.pose, slice(int(first), int(last)))


def estimate_hands(
    estimator: Estimator,
    depth: Array | Sequence[Array],
    max_hands: int = 2,
    *,
    missing: Literal["raise", "skip"] = "raise",
    return_stages: bool = False,
) -> FrameHands:
    """Detect hands and estimate the pose of each. The result of a frame does not depend on other frames.

    Args:
        estimator: model, camera and settings.
        depth: one frame [H, W], a batch [B, H, W], or a list of frames, whose sizes may differ.
        max_hands: the largest number of hands per frame.
        missing: "skip": a frame without depth, or with all hands out of range, has no hands instead of an error.
        return_stages: keep the pose of every stage.

    Raises:
        HandDistanceError: All hands in a frame are nearer than 120 mm or farther than 2 m.
        ValueError: max_hands is below 1, a frame is empty, depth looks like another unit, or the camera is not the one
            of these frames.
    """
    if missing not in ("raise", "skip"):
        raise ValueError(
            f"missing is {missing!r} with several hands per frame; expected 'raise' or 'skip': a frame without hands "
            "has no rows"
        )
    skip = missing == "skip"
    several_sizes = isinstance(depth, Sequence) and len({np.shape(frame) for frame in depth}) > 1
    images: list[Any] = []
    found: list[list[HandDetection]] = []
    for part in [[frame] for frame in depth] if several_sizes else [depth]:
        frames = read_frames(part, estimator.device)
        check_camera(estimator.camera, frames)
        check_units(frames, estimator.depth_unit, allow_empty=skip)
        images += [like(frame, frames.given) for frame in frames.depth]
        detected = find_hands(list(frames.depth), estimator.camera, max_hands, depth_unit=estimator.depth_unit)
        found += [_in_reach(hands, estimator.depth_unit, skip) for hands in detected]
    frame = [i for i, hands in enumerate(found) for _ in hands]
    kept = [hand for hands in found for hand in hands]
    if kept:
        centers = np.array([hand.center for hand in kept], np.float32)
        sides = [hand.side for hand in kept] if estimator.hand == "auto" else None
        pose = estimator([images[i] for i in frame], center=centers, sides=sides, return_stages=return_stages)
    else:  # rows of the right kind and shape, none of which is kept
        pose = estimator(images[:1], missing="nan", return_stages=return_stages)
    score = np.array([hand.score for hand in kept], np.float32)
    return FrameHands(_rows(pose, slice(len(kept))), np.array(frame, np.int64), score, len(images))


def _in_reach(hands: list[HandDetection], depth_unit: float, skip: bool) -> list[HandDetection]:
    """The hands at distances at which cameras see hands; with ``skip``, a warning where there are others only.

    Raises:
        HandDistanceError: There are hands, and none is.
    """
    near = [hand for hand in hands if NEAREST_HAND <= hand.center[2] <= FARTHEST_HAND]
    if hands and not near:
        check_distances(torch.tensor([hands[0].center], dtype=torch.float32), depth_unit, allow=skip)
    return near


def single_hand(pose: HandPose, row: int) -> HandPose:
    """One row of a pose with a batch axis, without this axis."""
    return _changed(_rows(pose, slice(row, row + 1)), lambda array, axis: array.squeeze(axis))


def _rows(pose: HandPose, part: slice) -> HandPose:
    """Some of the rows of a pose with a batch axis."""
    rows = _changed(pose, lambda array, axis: array[:, part] if axis else array[part])
    return replace(rows, hand=pose.hand[part])


def _changed(pose: HandPose, change: Callable[[Array, int], Any]) -> HandPose:
    """A pose whose arrays went through a function, which is given the batch axis of each."""
    arrays = {name: (getattr(pose, name), axis) for name, axis in BATCH_AXES.items()}
    return replace(pose, **{name: change(array, axis) for name, (array, axis) in arrays.items() if array is not None})
