# SPDX-License-Identifier: MIT
"""The frame loop: a frame in, a result out, whatever the frame is."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

from poseren_ext.inference.errors import NoHandError
from poseren_ext.inference.estimator import Estimator, HandPose
from poseren_ext.inference.input_frames import check_camera, read_frames
from poseren_ext.live.frames import FrameGate, StreamFrame, UnusableFrameError
from poseren_ext.live.tracking import Tracker

if TYPE_CHECKING:
    from poseren_ext.live.sources import Source

Outcome: TypeAlias = Literal["tracked", "detected", "no hand", "skipped"]

WINDOW = 300
"""Results over which frame rate and latency are taken."""


@dataclass(frozen=True)
class LiveResult:
    """What became of one frame.

    Attributes:
        frame: the frame; its depth may be anything where it was skipped.
        outcome: "tracked" from the last pose, "detected" anew, "no hand", or "skipped": not a frame to work with.
        pose: the hand, tensors without a batch axis; None unless tracked or detected.
        reason: where there is no pose, or tracking was given up: why, in few words, the same for all of a kind.
        detail: the same in full.
        latency: seconds from the frame's arrival to this result.
    """

    frame: StreamFrame
    outcome: Outcome
    pose: HandPose | None
    reason: str
    detail: str
    latency: float


class LiveStatistics:
    """Counts of a stream, and speed over its last results. Bounded: a stream may run for days.

    Attributes:
        frames: frames so far, faulty ones too.
        dropped: frames that the camera counted and never gave.
        outcomes: how many frames were tracked, detected, without a hand, or skipped.
        reasons: how many frames had no pose, or lost their track, for which reason.
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
        """Frames with a pose."""
        return self.outcomes["tracked"] + self.outcomes["detected"]

    @property
    def rate(self) -> float:
        """Frames per second over the last results; 0 before the second one."""
        if len(self._ends) < 2:
            return 0.0
        return (len(self._ends) - 1) / max(self._ends[-1] - self._ends[0], 1e-9)

    def latency(self, percent: float) -> float:
        """Percentile of the last latencies, milliseconds; 0 before there is one."""
        return 1e3 * float(np.percentile(self._latencies, percent)) if self._latencies else 0.0


class LiveEstimator:
    """Pose-REN on a stream: keeps the hand from frame to frame, and never fails because of a frame.

    Args:
        estimator: model, camera and settings.
        track: start from the last frame's pose; False finds the hand in every frame.
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
        """The hand in the next frame, or why there is none.

        Raises:
            ValueError: the intrinsics cannot be those of the stream's frames: told at its first frame.
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
        """Every frame of a source, until it ends.

        Raises:
            SourceLost: the camera is gone.
            ValueError: the intrinsics cannot be those of the source's frames.
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
