# SPDX-License-Identifier: MIT
"""The frame loop: returns one result per frame, also for invalid frames."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from poseren_ext.inference.errors import NoHandError
from poseren_ext.inference.estimator import Estimator
from poseren_ext.inference.hand_pose import HandPose
from poseren_ext.inference.input_frames import check_camera, read_frames
from poseren_ext.live.frames import FrameGate, StreamFrame, UnusableFrameError
from poseren_ext.live.tracking import Tracker

if TYPE_CHECKING:
    from poseren_ext.live.sources import Source

Outcome: TypeAlias = Literal["tracked", "detected", "no hand", "skipped"]

WINDOW = 300
"""Number of results over which frame rate and latency are computed."""


@dataclass(frozen=True)
class LiveResult:
    """The result of one frame.

    Attributes:
        frame: the frame; its depth is unchecked if it was skipped.
        outcome: "tracked" from the last pose, "detected" (initial detection or re-detection), "no hand", or "skipped"
            (an invalid frame).
        pose: the hand, tensors without a batch axis; None unless tracked or detected.
        reason: short reason why there is no pose or why tracking was reset; the same text for each kind of cause, so
            that it can be counted.
        detail: the reason with the details of this frame.
        latency: seconds from the arrival of the frame to this result.
    """

    frame: StreamFrame
    outcome: Outcome
    pose: HandPose | None
    reason: str
    detail: str
    latency: float


class LiveStatistics:
    """Counts of a stream, and speed over its last results. Memory use is bounded, so a stream may run for days.

    Attributes:
        frames: number of frames so far, including invalid ones.
        dropped: number of frames that the camera counted but did not deliver.
        outcomes: number of frames for each outcome (tracked, detected, no hand, skipped).
        reasons: number of frames without a pose, or with a reset of tracking, for each reason.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.dropped = 0
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._ends: deque[float] = deque(maxlen=WINDOW)

    def add(self, result: LiveResult, dropped: int) -> None:
        """Count one more result."""
        self.frames += 1
        self.dropped = dropped
        self.outcomes[result.outcome] += 1
        if result.reason:
            self.reasons[result.reason] += 1
        self._ends.append(time.perf_counter())
        if result.outcome != "skipped":
            self._latencies.append(result.latency)

    @property
    def poses(self) -> int:
        """Number of frames with a pose."""
        return self.outcomes["tracked"] + self.outcomes["detected"]

    @property
    def rate(self) -> float:
        """Frames per second over the last results; 0 before the second one."""
        if len(self._ends) < 2:
            return 0.0
        return (len(self._ends) - 1) / max(self._ends[-1] - self._ends[0], 1e-9)

    def latency(self, percent: float) -> float:
        """Percentile of the last latencies, milliseconds; 0 before the first result."""
        return 1e3 * float(np.percentile(self._latencies, percent)) if self._latencies else 0.0


class LiveEstimator:
    """Pose-REN on a stream: tracks the hand from frame to frame. An invalid frame never raises.

    Args:
        estimator: model, camera and settings.
        track: start from the pose of the last frame; False detects the hand in every frame.
        recheck: see :class:`Tracker`.
        return_stages: keep the pose of every stage.

    Attributes:
        statistics: counts and speed so far.
    """

    def __init__(
        self, estimator: Estimator, *, track: bool = True, recheck: int = 30, return_stages: bool = False
    ) -> None:
        self.estimator = estimator
        self.statistics = LiveStatistics()
        self._tracker = Tracker(estimator, recheck=recheck, return_stages=return_stages)
        self._track = track
        self._gate = FrameGate()

    def step(self, frame: StreamFrame) -> LiveResult:
        """Process the next frame: the pose of the hand, or the reason why there is none.

        Raises:
            ValueError: The intrinsics do not fit the frames of the stream; raised at the first frame.
        """
        try:
            started = self._gate.size is not None
            depth = self._gate.check(frame)
            if not started:
                check_camera(self.estimator.camera, read_frames(depth, depth.device))
        except UnusableFrameError as fault:
            return self._result(frame, "skipped", None, fault.reason, str(fault))
        if not self._track:
            self._tracker.reset()
        try:
            estimate = self._tracker.estimate(depth)
        except ValueError as error:
            reason = "no hand" if isinstance(error, NoHandError) else "no depth in this unit"
            return self._result(frame, "no hand", None, reason, str(error))
        return self._result(frame, estimate.mode, estimate.pose, estimate.lost, estimate.lost)

    def run(self, source: Source) -> Iterator[LiveResult]:
        """Process every frame of a source until it ends.

        Raises:
            SourceLost: The camera was disconnected.
            ValueError: The intrinsics do not fit the frames of the source.
        """
        while (frame := source.read()) is not None:
            yield self.step(frame)

    def _result(
        self, frame: StreamFrame, outcome: Outcome, pose: HandPose | None, reason: str, detail: str
    ) -> LiveResult:
        latency = time.perf_counter() - frame.arrived
        result = LiveResult(frame, outcome, pose, reason, detail, latency)
        self.statistics.add(result, self._gate.dropped)
        return result
