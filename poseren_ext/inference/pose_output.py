# SPDX-License-Identifier: MIT
"""What `HandPose` gives to other tools: joints in their order, a dictionary for JSON, and files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import torch

from poseren_ext.geometry.skeleton import Skeleton
from poseren_ext.io.joint_files import Format, JointRows, format_of, hand_record, save_rows
from poseren_ext.io.joint_layout import JointLayout


class Pose(Protocol):
    """The part of a HandPose that is written; its arrays have a batch axis or not."""

    @property
    def joints(self) -> Any:
        """[B, J, 3] or [J, 3], mm."""

    @property
    def uvd(self) -> Any:
        """[B, J, 3] or [J, 3]: pixels, pixels, mm."""

    @property
    def hand(self) -> tuple[str, ...]:
        """One of "left" and "right" per frame."""

    @property
    def skeleton(self) -> Skeleton:
        """The order of the joints."""

    @property
    def error_mm(self) -> Any:
        """[B] or a scalar, mm; None where the model predicts none."""

    @property
    def frame(self) -> Any:
        """[B], the frame of each row; None: row i is frame i."""


def in_layout(pose: Pose, layout: JointLayout) -> Any:
    """The joints of a pose in a layout: [B, K, 3] or [K, 3], of the kind of the pose's arrays.

    Raises:
        ValueError: the skeleton has no palm frame, or no joint of the order.
    """
    layout.check(pose.skeleton)
    return layout.apply(pose.uvd, pose.joints, pose.skeleton)


def pose_rows(pose: Pose, layout: JointLayout, frames: Sequence[str] | None = None) -> JointRows:
    """A pose as rows of a file, one per frame.

    Raises:
        ValueError: There are not as many names as frames; or as `in_layout`.
    """
    joints = torch.as_tensor(in_layout(pose, layout)).detach().cpu().double().numpy()
    joints = joints.reshape(-1, *joints.shape[-2:])
    numbers = range(len(joints)) if pose.frame is None else torch.as_tensor(pose.frame).tolist()
    names = [str(number) for number in numbers] if frames is None else [str(name) for name in frames]
    if len(names) != len(joints):
        raise ValueError(f"frames has {len(names)} names; expected one for each of {len(joints)} frames")
    error = pose.error_mm
    errors = np.full(len(joints), np.nan) if error is None else torch.as_tensor(error).detach().cpu().numpy()
    return JointRows(names, [0] * len(names), list(pose.hand), errors.reshape(-1), joints)


def pose_dict(pose: Pose, layout: JointLayout) -> dict[str, Any]:
    """A pose as numbers, texts and lists that JSON can hold; missing joints are None.

    Raises:
        ValueError: as `in_layout`.
    """
    rows = pose_rows(pose, layout)
    records = [hand_record(*row, layout.decimals) for row in rows]
    for record in records:
        del record["hand_id"]
        if pose.frame is None:
            del record["frame"]
    return {**layout.describe(pose.skeleton), "frames": records}


def save_pose(
    pose: Pose,
    path: str | os.PathLike[str],
    layout: JointLayout | None,
    file_format: Format | None,
    frames: Sequence[str] | None,
    overwrite: bool,
) -> None:
    """Write a pose to a file; arguments and errors as in `HandPose.save`."""
    chosen = format_of(path, file_format)
    if os.path.lexists(path) and not overwrite:
        raise FileExistsError(f"{os.fspath(path)} exists; overwrite=True replaces it, or choose another name")
    layout = layout or default_layout(chosen)
    save_rows(path, chosen, pose_rows(pose, layout, frames), layout.describe(pose.skeleton))


def default_layout(file_format: Format) -> JointLayout:
    """Text files hold uvd, as those that the datasets' authors publish; the others xyz in mm."""
    return JointLayout("uvd" if file_format == "txt" else "xyz")
