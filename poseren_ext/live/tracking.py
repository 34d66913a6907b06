# SPDX-License-Identifier: MIT
"""Hands over time: detections are assigned to tracks, and the cascade of each track starts from its last pose.

Any pose can be the initial pose of the cascade (paper, section 4.4.4). That of the last frame is better than Init-CNN's
as long as the hand has moved by less than its cube.
"""

from __future__ import annotations

import copy
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias, get_args

import numpy as np
import torch
from torch import Tensor

from poseren_ext import ops
from poseren_ext.geometry.camera import uvd_to_xyz, xyz_to_uvd
from poseren_ext.inference.estimator import Estimator, Hand
from poseren_ext.inference.hand_detection import HandDetection, find_hands
from poseren_ext.inference.hand_pose import HandPose
from poseren_ext.inference.input_frames import check_units, read_frames
from poseren_ext.inference.learnt_detection import LEAST_SCORE
from poseren_ext.live.smoothing import OneEuroFilter, OneEuroSettings
from poseren_ext.live.tracks import Observation, Position, Track, TrackSet

Mode: TypeAlias = Literal["tracked", "detected"]

LARGEST_GAP = 30.0
"""Limit in mm of the mean distance between the joints and the nearest place that the surface allows. Correct poses on
synthetic sequences stay below it in 99 % of the frames; poses on a shoulder or a chest exceed it in most frames."""
LARGEST_STRETCH = 0.2
"""Largest relative difference between the sum of the bone lengths and its median over the last frames."""
MEMORY = 30
"""Number of frames over which the sum of the bone lengths is kept."""
SETTLED = 3.5
"""Log odds of a track's side from which on only this side is estimated: 97 %."""
VOTE_EVERY = 30
"""Number of frames of a track after which both sides are compared again."""
DOUBTFUL_SCORE = 0.1
"""Least score of a detection that continues a track; one that starts a track needs LEAST_SCORE of `find_hands`."""
SAME_HAND = 50.0
"""mm between the means of the joints of two hands below which they are one: the more certain detection's is kept."""
ELSEWHERE = 70.0
"""mm between the mean of a hand's joints and its detection above which the joints are those of something else."""
_DOUBTFUL = 4  # detections beyond the number of tracks that are looked at
_OTHER_SIDE = "the side of the hand changed"
_OFF_SURFACE = "the joints do not fit the surface"
_EVIDENCE = 1.0  # log odds: a detector or a comparison of both hands that is right in 73 % of the frames


@dataclass(frozen=True)
class TrackedHand:
    """A hand in one frame.

    Attributes:
        track: the number of its track, which no other track of the session has.
        pose: tensors without a batch axis; the joints are smoothed. Its hand is the side of the track.
        mode: "tracked": refined from the track's last pose; "detected": refined from Init-CNN's pose.
        side_probability: probability of the side by the evidence of all frames; 1 if the caller chose the side.
        score: of the detection, 0 to 1.
        reason: why the last pose was not used although there was one; empty otherwise.
    """

    track: int
    pose: HandPose
    mode: Mode
    side_probability: float
    score: float
    reason: str = ""


@dataclass
class _Memory:
    """What a track remembers: its last pose before smoothing, the sums of its bone lengths, its filter and its age."""

    smooth: OneEuroFilter | None
    pose: HandPose | None = None
    bones: deque[float] = field(default_factory=lambda: deque(maxlen=MEMORY))
    frames: int = 0


class HandTracker:
    """Tracks hands from frame to frame.

    Hands are detected in every frame and assigned to tracks by position and side (:class:`TrackSet`). A track's pose is
    refined from its last one. Init-CNN gives the initial pose instead when one of these holds:

    - the track is new, or its side has changed;
    - the refined joints are more than LARGEST_GAP mm on average from where the surface allows them, and those of
      Init-CNN's pose are nearer;
    - the sum of their bone lengths differs by more than LARGEST_STRETCH from its median over the last frames.

    A pose is not reported if its joints are on average more than ELSEWHERE mm away from the detection, or less than
    SAME_HAND mm away from those of a hand with a more certain detection.

    With hand="auto" both sides are estimated until the evidence for one of them has settled, and again every VOTE_EVERY
    frames: the side of a track is that of most evidence, from poses and from the detector, over all its frames.

    Args:
        estimator: model, camera and settings.
        max_hands: largest number of hands.
        smoothing: parameters of the One Euro filter of the joints; None disables it.
        return_stages: keep the pose of every stage.

    Raises:
        ValueError: max_hands is below 1.
    """

    def __init__(
        self,
        estimator: Estimator,
        *,
        max_hands: int = 1,
        smoothing: OneEuroSettings | None = OneEuroSettings(),  # noqa: B008  it is frozen
        return_stages: bool = False,
    ) -> None:
        if max_hands < 1:
            raise ValueError(f"max_hands is {max_hands}; expected 1 or more")
        self.estimator = estimator
        self.max_hands = max_hands
        self.smoothing = smoothing
        self.return_stages = return_stages
        self._estimators: dict[str, Estimator] = {}
        for hand in get_args(Hand):
            self._estimators[hand] = copy.copy(estimator)
            self._estimators[hand].hand = hand
        self._tracks = TrackSet(max_hands)
        self._memories: dict[int, _Memory] = {}

    def estimate(self, depth: Tensor, time: float) -> list[TrackedHand]:
        """Estimate the hands in the next frame, by track.

        Args:
            depth: [H, W] in stored units.
            time: of the frame, seconds.

        Raises:
            ValueError: The frame has no depth in this unit.
        """
        estimator = self.estimator
        frames = read_frames(depth, estimator.device)
        check_units(frames, estimator.depth_unit)
        frame, hands = frames.depth[0], list[tuple[Position, TrackedHand]]()
        certain, doubtful = self._detections(depth)
        observations = [self._observation(detection) for detection in certain]
        observations += [replace(self._observation(detection), certain=False) for detection in doubtful]
        tracks, found = self._tracks.update(observations, time), certain + doubtful
        for track, detection in zip(tracks, found, strict=True):
            if track is None or (hand := self._hand(frame, time, track, detection)) is None:
                continue
            middle = _middle(self._memories[track.id].pose or hand.pose)  # without smoothing
            if np.linalg.norm(middle - uvd_to_xyz(np.array(detection.center), estimator.camera)) <= ELSEWHERE:
                hands.append((middle, hand))
        shown = _distinct(hands)
        for track in tracks:
            if track is not None and track.id not in shown:
                self._tracks.withdraw(track.id)
                self._memories.pop(track.id, None)
        self._memories = {track.id: self._memories[track.id] for track in self._tracks if track.id in self._memories}
        return [shown[number] for number in sorted(shown)]

    def _detections(self, depth: Tensor) -> tuple[list[HandDetection], list[HandDetection]]:
        """The hands of a frame, and less certain ones, which may be those of tracks."""
        camera, unit = self.estimator.camera, self.estimator.depth_unit
        most = self.max_hands + _DOUBTFUL
        found: list[HandDetection] = find_hands(depth, camera, most, depth_unit=unit, score_threshold=DOUBTFUL_SCORE)
        certain = [hand for hand in found if hand.score >= LEAST_SCORE]
        # One more than there are tracks: something that is not a hand may be nearer than a tracked one.
        return certain[: self.max_hands + 1], [hand for hand in found if hand.score < LEAST_SCORE]

    def _observation(self, detection: HandDetection) -> Observation:
        position = uvd_to_xyz(np.array(detection.center), self.estimator.camera)
        evidence = {"right": _EVIDENCE, "left": -_EVIDENCE, None: 0.0}[detection.side]
        return Observation(position, evidence)

    def _hand(self, frame: Tensor, time: float, track: Track, detection: HandDetection) -> TrackedHand | None:
        """The hand of a track; None if the detection has no surface around it or is too near or too far."""
        new = _Memory(None if self.smoothing is None else OneEuroFilter(self.smoothing))
        memory = self._memories.setdefault(track.id, new)
        center = torch.tensor(detection.center, dtype=torch.float32, device=frame.device)
        try:
            compared = None
            if abs(self._odds(track)) < SETTLED or memory.frames % VOTE_EVERY == VOTE_EVERY - 1:
                track, compared = self._vote(frame, center, track)
            side = self._side(track, memory, compared)
            pose, reason = self._follow(frame, center, side, memory)
            mode: Mode = "tracked"
            if pose is None or reason:
                reusable = compared is not None and compared.hand[0] == side
                fresh = compared if compared is not None and reusable else self._refined(frame, center, side)
                if pose is None or self._gap(frame, fresh) < self._gap(frame, pose):
                    pose, mode = fresh, "detected"
                    memory.bones.clear()
                else:
                    reason = ""
                if reason == _OTHER_SIDE and memory.smooth is not None:
                    memory.smooth.reset()
        except ValueError:
            return None
        memory.pose = pose
        memory.frames += 1
        memory.bones.append(_bone_sum(pose))
        shown = pose if memory.smooth is None else self._smoothed(pose, memory.smooth, time)
        probability = 1 / (1 + math.exp(-abs(self._odds(track))))
        return TrackedHand(track.id, shown, mode, probability, detection.score, reason)

    def _odds(self, track: Track) -> float:
        """Log odds that the track is a right hand; infinite if the caller chose the side."""
        return track.right if self.estimator.hand == "auto" else math.inf

    def _vote(self, frame: Tensor, center: Tensor, track: Track) -> tuple[Track, HandPose]:
        """Estimate both sides; the better one is evidence for the track's side."""
        pose = self._refined(frame, center, "auto")
        return self._tracks.vote(track.id, _EVIDENCE if pose.hand[0] == "right" else -_EVIDENCE), pose

    def _side(self, track: Track, memory: _Memory, compared: HandPose | None) -> str:
        """The side to estimate: that of most evidence; if there is none, that of the last pose."""
        if self.estimator.hand != "auto":
            return self.estimator.hand
        before = memory.pose or compared
        return track.side or ("right" if before is None else before.hand[0])

    def _follow(self, frame: Tensor, center: Tensor, side: str, memory: _Memory) -> tuple[HandPose | None, str]:
        """The track's last pose, moved with the hand's centre and refined; why there is none, or why it is doubtful."""
        last, camera, cube = memory.pose, self.estimator.camera, self.estimator.cube
        if last is None:
            return None, ""
        if last.hand[0] != side:
            return None, _OTHER_SIDE
        uvd, before = torch.as_tensor(last.uvd)[None], torch.as_tensor(last.center)[None]
        relative = ops.normalize_pose(uvd, before, camera, cube=cube)
        initial = ops.denormalize_pose(relative, center[None], camera, cube=cube)
        try:
            pose = self._refined(frame, center, side, initial[0])
        except ValueError:
            return None, "the pose left the cube around the hand"
        reason = self._implausible(frame, pose, memory)
        return (pose if reason in ("", _OFF_SURFACE) else None), reason

    def _refined(self, frame: Tensor, center: Tensor, side: str, initial: Tensor | None = None) -> HandPose:
        return self._estimators[side](frame, center=center, init_pose=initial, return_stages=self.return_stages)

    def _implausible(self, frame: Tensor, pose: HandPose, memory: _Memory) -> str:
        """Reason why the pose is not that of the tracked hand; empty if it is plausible."""
        if not bool(torch.isfinite(torch.as_tensor(pose.joints)).all()):
            return "the pose is not finite"
        if self._gap(frame, pose) > LARGEST_GAP:
            return _OFF_SURFACE
        if abs(_bone_sum(pose) / float(np.median(memory.bones)) - 1) > LARGEST_STRETCH:
            return "the bones changed their length"
        return ""

    def _gap(self, frame: Tensor, pose: HandPose) -> float:
        return float(self.estimator.surface_gap(frame[None], torch.as_tensor(pose.uvd)[None]))

    def _smoothed(self, pose: HandPose, smooth: OneEuroFilter, time: float) -> HandPose:
        before = torch.as_tensor(pose.joints)
        joints = torch.from_numpy(smooth(before.cpu().numpy(), time)).to(before)
        return replace(pose, joints=joints, uvd=xyz_to_uvd(joints, self.estimator.camera))


def _distinct(hands: Sequence[tuple[Position, TrackedHand]]) -> dict[int, TrackedHand]:
    """By track, the hands without those whose joints are where those of one with a more certain detection are.

    The pose of a hand that another one hides is easily that of the other one, which is in its cube too.

    Args:
        hands: the mean of the joints, and the hand.
    """
    kept: list[tuple[Position, TrackedHand]] = []
    for middle, hand in sorted(hands, key=lambda pair: -pair[1].score):
        if all(np.linalg.norm(middle - other) > SAME_HAND for other, _ in kept):
            kept.append((middle, hand))
    return {hand.track: hand for _, hand in kept}


def _middle(pose: HandPose) -> Position:
    """Mean of the joints [3], mm, camera frame."""
    middle: Position = np.asarray(torch.as_tensor(pose.joints).cpu(), np.float64).mean(0)
    return middle


def _bone_sum(pose: HandPose) -> float:
    """Sum of the lengths of all bones, mm."""
    joints = torch.as_tensor(pose.joints)
    first, second = (list(ends) for ends in zip(*pose.skeleton.bones, strict=True))
    return float((joints[first] - joints[second]).norm(dim=-1).sum())
