# SPDX-License-Identifier: MIT
"""From frame to frame: the cascade started where the hand was, and Init-CNN when that is no longer the hand.

The last frame's pose is an initial pose like any other (paper, section 4.4.4), and a better one than Init-CNN's as long
as the hand has moved by less than its cube. No search for the hand is needed then.
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
from poseren_ext.inference.estimator import Estimator, Hand, HandPose
from poseren_ext.inference.hand_detection import find_hands

Mode: TypeAlias = Literal["tracked", "detected"]

LARGEST_GAP = 30.0
"""mm: mean distance of the joints from where the surface allows them. Right poses on synthetic sequences stay below in
99 of 100 frames; one put on a shoulder or a chest is above in most."""
LARGEST_STRETCH = 0.2
"""Bones do not grow: the share by which their sum may differ from its median over the last frames."""
MEMORY = 30
"""Frames over which the bones' sum is remembered."""


@dataclass(frozen=True)
class Estimate:
    """A pose and how it came about.

    Attributes:
        pose: tensors without a batch axis.
        mode: "tracked": started from the last frame's pose; "detected": found anew, Init-CNN's pose refined.
        lost: why tracking was given up in this frame; empty otherwise.
    """

    pose: HandPose
    mode: Mode
    lost: str = ""


class Tracker:
    """Follows one hand.

    A hand counts as lost, and is looked for anew in the same frame, when one of these holds for the tracked pose:

    - no surface of a hand's size is in the cube around the last centre;
    - its joints are more than LARGEST_GAP mm from where the surface allows them;
    - its bones' sum differs by more than LARGEST_STRETCH from the last frames' median.

    Every `recheck` frames the hand is looked for anyway; when it is found more than half a cube from the tracked one,
    the tracked one was none.

    Args:
        estimator: model, camera and settings. With hand="auto" a detection tries both hands, and tracking keeps to the
            one that was found.
        recheck: frames between two looks for the hand; 0 never looks while tracking.
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
        """The hand in the next frame.

        Args:
            depth: as stored [H, W].

        Raises:
            ValueError: no hand is found, or the frame is in another unit.
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
        """The pose refined from the last one, moved with the centre of mass; or why there is none."""
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
        """Centre [1, 3] of the hand in the cube around the last one; None where there is none."""
        estimator = self.estimator
        (u, v, d), cube, camera = last.tolist(), estimator.cube, estimator.camera
        half_u, half_v = cube * camera.fx / d, cube * camera.fy / d
        rows = slice(max(0, round(v - half_v)), max(0, round(v + half_v) + 1))
        columns = slice(max(0, round(u - half_u)), max(0, round(u + half_u) + 1))
        window = frame[0, rows, columns].cpu().float().numpy() * np.float32(estimator.depth_unit)
        window = np.where(np.abs(window - d) <= cube, window, 0)
        found = find_hands(window, camera, 1) if window.size else []
        if not found:
            return None
        u, v, d = found[0].center
        return torch.tensor([[u + columns.start, v + rows.start, d]], device=frame.device)

    def _implausible(self, frame: Tensor, pose: HandPose) -> str:
        """Why the pose is not the tracked hand's; empty when it may be."""
        estimator = self.estimator
        if not bool(torch.isfinite(torch.as_tensor(pose.joints)).all()):
            return "the pose is not finite"
        if float(estimator.surface_gap(frame, torch.as_tensor(pose.uvd)[None])) > LARGEST_GAP:
            return "the joints do not fit the surface"
        if abs(_bone_sum(pose) / float(np.median(self._bones)) - 1) > LARGEST_STRETCH:
            return "the bones changed their length"
        return ""

    def _distance(self, first: HandPose, second: HandPose) -> float:
        """Between the middles of two poses, mm."""
        a, b = (torch.as_tensor(pose.joints).mean(0) for pose in (first, second))
        return float((a - b).norm())


def _hand(pose: HandPose) -> Hand:
    return "left" if pose.hand[0] == "left" else "right"


def _bone_sum(pose: HandPose) -> float:
    """mm, of all bones."""
    joints = torch.as_tensor(pose.joints)
    first, second = (list(ends) for ends in zip(*pose.skeleton.bones, strict=True))
    return float((joints[first] - joints[second]).norm(dim=-1).sum())
