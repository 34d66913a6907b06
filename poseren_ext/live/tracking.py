# SPDX-License-Identifier: MIT
"""Tracking: the cascade starts from the last pose; when tracking fails, detection and Init-CNN run again.

Any pose can be the initial pose of the cascade (paper, section 4.4.4). That of the last frame is better than Init-CNN's
as long as the hand has moved by less than its cube, and saves the detection.
"""

from __future__ import annotations

import copy
from collections import deque
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from poseren_ext import ops
from poseren_ext.inference.estimator import Estimator, Hand
from poseren_ext.inference.hand_detection import find_hands
from poseren_ext.inference.hand_pose import HandPose

Mode: TypeAlias = Literal["tracked", "detected"]

LARGEST_GAP = 30.0
"""Limit in mm of the mean distance between the joints and the nearest place that the surface allows. Correct poses on
synthetic sequences stay below it in 99 % of the frames; poses on a shoulder or a chest exceed it in most frames."""
LARGEST_STRETCH = 0.2
"""Largest relative difference between the sum of the bone lengths and its median over the last frames."""
MEMORY = 30
"""Number of frames over which the sum of the bone lengths is kept."""


@dataclass(frozen=True)
class Estimate:
    """A pose and how it was obtained.

    Attributes:
        pose: tensors without a batch axis.
        mode: "tracked": refined from the pose of the last frame; "detected": refined from Init-CNN's pose.
        lost: reason why tracking was reset in this frame; empty otherwise.
    """

    pose: HandPose
    mode: Mode
    lost: str = ""


class Tracker:
    """Tracks one hand.

    Tracking is reset and detection runs again in the same frame when one of these holds for the tracked pose:

    - no surface of the size of a hand is in the cube around the last centre;
    - the joints are more than LARGEST_GAP mm on average from where the surface allows them;
    - the sum of the bone lengths differs by more than LARGEST_STRETCH from its median over the last frames.

    Detection also runs every `recheck` frames. If it finds a hand more than half a cube from the tracked pose, the
    tracked pose is replaced by the detected one.

    Args:
        estimator: model, camera and settings. With hand="auto" a detection tries both hands, and tracking keeps to the
            one that was found.
        recheck: frames between two detections while tracking; 0 disables them.
        return_stages: keep the pose of every stage.
    """

    def __init__(self, estimator: Estimator, *, recheck: int = 30, return_stages: bool = False) -> None:
        if recheck < 0:
            raise ValueError(f"recheck is {recheck}; expected a number of frames, 0 for never")
        self.estimator = estimator
        self.recheck = recheck
        self.return_stages = return_stages
        self._last: HandPose | None = None
        self._bones: deque[float] = deque(maxlen=MEMORY)
        self._since_check = 0

    def reset(self) -> None:
        """Forget the hand."""
        self._last = None
        self._bones.clear()
        self._since_check = 0

    def estimate(self, depth: Tensor) -> Estimate:
        """Estimate the pose in the next frame.

        Args:
            depth: [H, W] in stored units.

        Raises:
            ValueError: No hand is detected, or the frame is in another unit.
        """
        lost, tracked = "", None
        if self._last is not None:
            tracked, lost = self._follow(depth, self._last)
        self._since_check += 1
        if tracked is not None and (self.recheck == 0 or self._since_check < self.recheck):
            return self._accept(tracked, "tracked")
        self._since_check = 0
        try:
            detected = self.estimator(depth, return_stages=self.return_stages)
        except ValueError:
            if tracked is None:
                self.reset()
                raise
            return self._accept(tracked, "tracked")
        if tracked is not None and self._distance(tracked, detected) < self.estimator.cube / 2:
            return self._accept(tracked, "tracked")
        self._bones.clear()
        return self._accept(detected, "detected", lost or ("a hand was found elsewhere" if tracked is not None else ""))

    def _accept(self, pose: HandPose, mode: Mode, lost: str = "") -> Estimate:
        self._last = pose
        self._bones.append(_bone_sum(pose))
        return Estimate(pose, mode, lost)

    def _follow(self, depth: Tensor, last: HandPose) -> tuple[HandPose | None, str]:
        """The last pose, moved with the centre of mass and refined; or the reason why tracking failed."""
        estimator = self.estimator
        frame = depth[None].to(estimator.device)
        center = self._center(frame, torch.as_tensor(last.center))
        if center is None:
            return None, "no hand where it was"
        uvd, before = torch.as_tensor(last.uvd)[None], torch.as_tensor(last.center)[None]
        relative = ops.normalize_pose(uvd, before, estimator.camera, cube=estimator.cube)
        initial = ops.denormalize_pose(relative, center, estimator.camera, cube=estimator.cube)
        same_hand = copy.copy(estimator)
        same_hand.hand = _hand(last)
        try:
            pose = same_hand(depth, center=center[0], init_pose=initial[0], return_stages=self.return_stages)
        except ValueError:
            return None, "the pose left the cube around the hand"
        why = self._implausible(frame, pose)
        return (None, why) if why else (pose, "")

    def _center(self, frame: Tensor, last: Tensor) -> Tensor | None:
        """Centre [1, 3] of the hand in the cube around the last centre; None if there is no hand."""
        estimator = self.estimator
        (u, v, d), cube, camera = last.tolist(), estimator.cube, estimator.camera
        half_u, half_v = cube * camera.fx / d, cube * camera.fy / d
        rows = slice(max(0, round(v - half_v)), max(0, round(v + half_v) + 1))
        columns = slice(max(0, round(u - half_u)), max(0, round(u + half_u) + 1))
        window = frame[0, rows, columns].cpu().float().numpy() * np.float32(estimator.depth_unit)
        window = np.where(np.abs(window - d) <= cube, window, 0)
        found = find_hands(window, camera, 1, method="surface") if window.size else []
        if not found:
            return None
        u, v, d = found[0].center
        return torch.tensor([[u + columns.start, v + rows.start, d]], device=frame.device)

    def _implausible(self, frame: Tensor, pose: HandPose) -> str:
        """Reason why the pose is not that of the tracked hand; empty if it is plausible."""
        estimator = self.estimator
        if not bool(torch.isfinite(torch.as_tensor(pose.joints)).all()):
            return "the pose is not finite"
        if float(estimator.surface_gap(frame, torch.as_tensor(pose.uvd)[None])) > LARGEST_GAP:
            return "the joints do not fit the surface"
        if abs(_bone_sum(pose) / float(np.median(self._bones)) - 1) > LARGEST_STRETCH:
            return "the bones changed their length"
        return ""

    def _distance(self, first: HandPose, second: HandPose) -> float:
        """Distance between the mean joints of two poses, mm."""
        a, b = (torch.as_tensor(pose.joints).mean(0) for pose in (first, second))
        return float((a - b).norm())


def _hand(pose: HandPose) -> Hand:
    return "left" if pose.hand[0] == "left" else "right"


def _bone_sum(pose: HandPose) -> float:
    """Sum of the lengths of all bones, mm."""
    joints = torch.as_tensor(pose.joints)
    first, second = (list(ends) for ends in zip(*pose.skeleton.bones, strict=True))
    return float((joints[first] - joints[second]).norm(dim=-1).sum())
