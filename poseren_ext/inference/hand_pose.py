# SPDX-License-Identifier: MIT
"""The result of an estimator: joints with what led to them."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poseren_ext.geometry.skeleton import Skeleton
from poseren_ext.inference.pose_output import in_layout, pose_dict, save_pose
from poseren_ext.io.joint_files import Format
from poseren_ext.io.joint_layout import JointLayout

Array: TypeAlias = Tensor | npt.NDArray[Any]

UNCERTAIN_MM = 30.0
"""A pose with a larger predicted error is reported as uncertain: do not use it without a look at the frame."""

BATCH_AXES = {"joints": 0, "uvd": 0, "center": 0, "stages": 1, "stages_run": 0, "error_mm": 0, "frame": 0}
"""The arrays of a `HandPose`, and the batch axis of each."""


@dataclass(frozen=True)
class HandPose:
    """Joints of the hand in each frame. Arrays are what the depth was: numpy or torch, with or without a batch axis.

    Attributes:
        joints: [B, J, 3] in mm, camera frame: x right, y down, z forward.
        uvd: [B, J, 3] = column and row in pixels, depth in mm.
        center: [B, 3] u, v (pixels), d (mm): the middle of the cube around the hand.
        stages: uvd after each stage, [T+1, B, J, 3], the initial pose first; None unless asked for.
        stages_run: int32 [B], the number of stages that moved a window; afterwards the pose is final.
        hand: "left" or "right" for each frame.
        skeleton: names and order of the joints.
        error_mm: [B], the mean joint error in mm that the model predicts for its own pose; NaN where the joints are.
            None if the model has no error head. Above `UNCERTAIN_MM` the pose counts as uncertain.
        frame: int64, the frame of each row, where ``missing="skip"`` left frames out; else None: row i is frame i.
    """

    joints: Array
    uvd: Array
    center: Array
    stages: Array | None
    stages_run: Array
    hand: tuple[str, ...]
    skeleton: Skeleton
    error_mm: Array | None = None
    frame: Array | None = None

    def in_order(self, order: str, layout: JointLayout | None = None) -> Array:
        """The joints in the order of another tool or dataset.

        Args:
            order: "mediapipe", "mano", "openxr26", "msra21", "nyu14", "icvl16" or "hands17".
            layout: coordinates, unit and coordinate frame; default: xyz in mm of the camera.

        Returns:
            [B, K, 3] of the same kind of array; NaN for joints that the skeleton does not have.

        Raises:
            ValueError: the order is unknown, or the skeleton lacks what the layout needs.
        """
        return cast("Array", in_layout(self, replace(layout or JointLayout("xyz"), order=order)))

    def to_dict(self, layout: JointLayout | None = None) -> dict[str, Any]:
        """The pose as JSON can hold it: names of the joints, units, and for each frame hand and joints.

        Args:
            layout: coordinates, unit, coordinate frame and order; default: xyz in mm of the camera.

        Raises:
            ValueError: the skeleton lacks what the layout needs.
        """
        return pose_dict(self, layout or JointLayout("xyz"))

    def save(
        self,
        path: str | os.PathLike[str],
        *,
        layout: JointLayout | None = None,
        file_format: Format | None = None,
        frames: Sequence[str] | None = None,
        overwrite: bool = False,
    ) -> None:
        """Write the pose to a file: .txt, .csv, .json, .npz or .parquet.

        Args:
            path: the file.
            layout: coordinates, unit, coordinate frame and order; default: uvd in text files, else xyz in mm.
            file_format: default: by the ending of the file, else txt.
            frames: a name for each frame; default: their numbers.
            overwrite: replace a file that exists.

        Raises:
            FileExistsError: the file exists.
            ValueError: the ending stands for another format, or the skeleton lacks what the layout needs.
            ModuleNotFoundError: Parquet without pyarrow.
        """
        save_pose(self, path, layout, file_format, frames, overwrite)


def joined_poses(poses: Sequence[HandPose]) -> HandPose:
    """Poses of single frames as one batch."""
    poses = [pose if pose.frame is None else replace(pose, frame=pose.frame + i) for i, pose in enumerate(poses)]

    def together(name: str, axis: int) -> Any:
        parts = [getattr(pose, name) for pose in poses]
        return torch.cat(parts, axis) if isinstance(parts[0], Tensor) else np.concatenate(parts, axis)

    arrays = {name: together(name, axis) for name, axis in BATCH_AXES.items() if getattr(poses[0], name) is not None}
    return replace(poses[0], **arrays, hand=tuple(hand for pose in poses for hand in pose.hand))
