# SPDX-License-Identifier: MIT
"""The frame loop: returns one result per frame, also for invalid frames."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
from torch import Tensor

from poseren_ext.inference.depth_units import unit_advice
from poseren_ext.inference.estimator import Estimator
from poseren_ext.inference.input_frames import check_camera, read_frames
from poseren_ext.live.frames import FrameGate, StreamFrame, UnusableFrameError
from poseren_ext.live.smoothing import OneEuroSettings
from poseren_ext.live.tracking import HandTracker, TrackedHand

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
        outcome: "tracked" if every hand was refined from its last pose, "detected" if one was not, "no hand", or
            "skipped" (an invalid frame).
        hands: the hands, by the numbers of their tracks; empty unless tracked or detected.
        reason: short reason why there is no hand or why a last pose was not used; the same text for each kind of cause,
            so that it can be counted.
        detail: the reason with the details of this frame.
        time: of the frame, seconds since the first frame of the stream on the clock of the stream.
        latency: seconds from the arrival of the frame to this result.
    """

    frame: StreamFrame
    outcome: Outcome
    hands: tuple[TrackedHand, ...]
    reason: str
    detail: str
    time: float
    latency: float


class LiveStatistics:
    """Counts of a stream, and speed over its last results. Memory use is bounded, so a stream may run for days.

    Attributes:
        frames: number of frames so far, including invalid ones.
        dropped: number of frames that the camera counted but did not deliver.
        outcomes: number of frames for each outcome (tracked, detected, no hand, skipped).
        reasons: number of frames without a hand, or whose last pose was not used, for each reason.
        hands: number of hands in all frames.
    """

    def __init__(self) -> None:
        self.frames = 0
        self.dropped = 0
        self.hands = 0
        self.outcomes: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()
        self._latencies: deque[float] = deque(maxlen=WINDOW)
        self._ends: deque[float] = deque(maxlen=WINDOW)

    def add(self, result: LiveResult, dropped: int) -> None:
        """Count one more result."""
        self.frames += 1
        self.dropped = dropped
        self.hands += len(result.hands)
        self.outcomes[result.outcome] += 1
        if result.reason:
            self.reasons[result.reason] += 1
        self._ends.append(time.perf_counter())
        if result.outcome != "skipped":
            self._latencies.append(result.latency)

    @property
    def poses(self) -> int:
        """Number of frames with a hand."""
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
    """Pose-REN on a stream: tracks hands from frame to frame. An invalid frame never raises.

    Args:
        estimator: model, camera and settings.
        max_hands, smoothing, return_stages: see :class:`HandTracker`.

    Attributes:
        statistics: counts and speed so far.
    """

    def __init__(
        self,
        estimator: Estimator,
        *,
        max_hands: int = 1,
        smoothing: OneEuroSettings | None = OneEuroSettings(),  # noqa: B008  it is frozen
        return_stages: bool = False,
    ) -> None:
        self.estimator = estimator
        self.statistics = LiveStatistics()
        self._tracker = HandTracker(estimator, max_hands=max_hands, smoothing=smoothing, return_stages=return_stages)
        self._gate = FrameGate()
        self._empty: Tensor | None = None  # the last frame without a hand
        self._start: float | None = None

    def step(self, frame: StreamFrame) -> LiveResult:
        """Process the next frame: the hands in it, or the reason why there is none.

        Raises:
            ValueError: The intrinsics do not fit the frames of the stream; raised at the first frame.
        """
        try:
            started = self._gate.size is not None
            depth = self._gate.check(frame)
            if not started:
                check_camera(self.estimator.camera, read_frames(depth, depth.device))
        except UnusableFrameError as fault:
            return self._result(frame, "skipped", fault.reason, str(fault))
        try:
            hands = self._tracker.estimate(depth, self._time(frame))
        except ValueError as error:
            self._empty = depth
            return self._result(frame, "no hand", "no depth in this unit", str(error))
        if not hands:
            self._empty = depth
            detail = "no hand was detected, or only once where there was none, or the joints were not at the detection"
            return self._result(frame, "no hand", "no hand", detail)
        reason = next((hand.reason for hand in hands if hand.reason), "")
        outcome: Outcome = "tracked" if all(hand.mode == "tracked" for hand in hands) else "detected"
        return self._result(frame, outcome, reason, reason, hands)

    def unit_advice(self) -> str:
        """The units in which the last frame without a hand has one, for a message; empty if there is none."""
        if self._empty is None:
            return ""
        frame = self._empty.cpu().float().numpy()
        return unit_advice(frame, self.estimator.camera, self.estimator.depth_unit)

    def _time(self, frame: StreamFrame) -> float:
        """Seconds since the first frame of the stream."""
        time = frame.arrived if frame.time is None else frame.time
        self._start = time if self._start is None else self._start
        return time - self._start

    def run(self, source: Source) -> Iterator[LiveResult]:
        """Process every frame of a source until it ends.

        Raises:
            SourceLost: The camera was disconnected.
            ValueError: The intrinsics do not fit the frames of the source.
        """
        while (frame := source.read()) is not None:
            yield self.step(frame)

    def _result(
        self, frame: StreamFrame, outcome: Outcome, reason: str, detail: str, hands: Sequence[TrackedHand] = ()
    ) -> LiveResult:
        latency = time.perf_counter() - frame.arrived
        result = LiveResult(frame, outcome, tuple(hands), reason, detail, self._time(frame), latency)
        self.statistics.add(result, self._gate.dropped)
        return result
