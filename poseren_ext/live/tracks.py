# SPDX-License-Identifier: MIT
"""Tracks of hands: identities that last while hands cross, disappear for a short time and come back.

A track is a Kalman filter of a hand's position with constant velocity, and the evidence for its side. Detections are
assigned to tracks by the distance to the predicted positions. Nothing here knows frames or models.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from poseren_ext._utils.assignment import assign

Side: TypeAlias = Literal["left", "right"]
Position: TypeAlias = npt.NDArray[np.float64]

CONFIRMATIONS = 3
"""Number of frames in a row in which a new hand is observed before it takes the place of one that is hidden."""
_FIRST_SPEED = 1000.0  # mm/s: standard deviation of the velocity of a hand that appears
_MOST_EVIDENCE = 12.0  # log odds; more would keep a wrong side for too long


@dataclass(frozen=True)
class TrackSettings:
    """Parameters of tracks.

    Attributes:
        noise: standard deviation of an observed position in each axis, mm.
        acceleration: standard deviation of the acceleration of a hand in each axis, mm/s^2.
        gate: largest distance between an observation and the predicted position in standard deviations; 4 holds 99.9 %
            of the observations of three axes.
        farthest: largest distance between an observation and the predicted position, mm, whatever the uncertainty; and
            between a new hand and a hidden one of the same side at which they are one.
        farthest_uncertain: the same for an observation that is not certain.
        same_hand: largest distance between a new hand and a hidden one, mm, at which they are one where the side of
            either is not known: a hand's length.
        keep: seconds after which a track without observations is deleted.

    Raises:
        ValueError: A parameter is not positive.
    """

    noise: float = 10.0
    acceleration: float = 4000.0
    gate: float = 4.0
    farthest: float = 300.0
    farthest_uncertain: float = 60.0
    same_hand: float = 200.0
    keep: float = 1.0

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is {value}; expected a positive number")


@dataclass(frozen=True)
class Observation:
    """A hand in one frame.

    Attributes:
        position: x, y, z of the hand's centre, mm, camera frame.
        right: log odds that it is a right hand: positive for right, negative for left, 0 if unknown.
        certain: an uncertain one continues a track that no certain one continues, and starts none.
    """

    position: Position
    right: float = 0.0
    certain: bool = True


@dataclass(frozen=True)
class Track:
    """A hand over time.

    Attributes:
        id: a number that no other track of the session has.
        position: x, y, z at `time`, mm, camera frame.
        velocity: mm/s.
        covariance: [2, 2] of position and velocity in each axis.
        right: log odds that it is a right hand, summed over the observations.
        time: of the state, seconds.
        seen: time of the last observation.
        last: position at that time, mm.
        observations: how many there were.
        missed: number of frames since the last observation.
    """

    id: int
    position: Position
    velocity: Position
    covariance: npt.NDArray[np.float64]
    right: float
    time: float
    seen: float
    last: Position
    observations: int = 1
    missed: int = 0

    @property
    def side(self) -> Side | None:
        """The side that the evidence so far speaks for; None without evidence."""
        return None if self.right == 0 else "right" if self.right > 0 else "left"

    def predicted(self, time: float, settings: TrackSettings) -> Track:
        """The track at a later time, without an observation."""
        step = max(time - self.time, 0.0)
        move = np.array([[1.0, step], [0.0, 1.0]])
        spread = settings.acceleration**2 * np.array([[step**4 / 4, step**3 / 2], [step**3 / 2, step**2]])
        return replace(
            self,
            position=self.position + step * self.velocity,
            covariance=move @ self.covariance @ move.T + spread,
            time=max(time, self.time),
            missed=self.missed + 1,
        )

    def observed(self, observation: Observation, settings: TrackSettings) -> Track:
        """The track with an observation at its own time."""
        gain = self.covariance[:, 0] / (self.covariance[0, 0] + settings.noise**2)
        error = np.asarray(observation.position, np.float64) - self.position
        position = self.position + gain[0] * error
        return replace(
            self,
            position=position,
            velocity=self.velocity + gain[1] * error,
            covariance=self.covariance - np.outer(gain, self.covariance[0]),
            right=_limited(self.right + observation.right),
            seen=self.time,
            last=position,
            observations=self.observations + 1,
            missed=0,
        )

    def cost(self, observation: Observation, settings: TrackSettings) -> float:
        """Cost of assigning an observation to the predicted track; infinite outside the gate.

        The negative log likelihood of the position, up to a constant, and that of the side.
        """
        variance = float(self.covariance[0, 0]) + settings.noise**2
        distance = float(np.linalg.norm(observation.position - self.position))
        farthest = settings.farthest if observation.certain else settings.farthest_uncertain
        if distance > min(settings.gate * math.sqrt(variance), farthest):
            return math.inf
        same_side = _probability(self.right) * _probability(observation.right)
        same_side += _probability(-self.right) * _probability(-observation.right)
        return 0.5 * distance**2 / variance + 1.5 * math.log(variance) - math.log(2 * same_side)


class TrackSet:
    """All tracks of a session.

    Args:
        most: largest number of tracks at a time.
        settings: the parameters.

    Raises:
        ValueError: most is below 1.
    """

    def __init__(self, most: int = 1, settings: TrackSettings | None = None) -> None:
        if most < 1:
            raise ValueError(f"most is {most}; expected 1 or more")
        self.most = most
        self.settings = settings or TrackSettings()
        self._tracks: dict[int, Track] = {}
        self._predicted: dict[int, Track] = {}  # at the time of the present frame, without its observations
        self._certain: dict[int, bool] = {}  # whether the observations of the present frame are
        self._candidate: Track | None = None
        self._next = 1
        self._time = -math.inf

    def __iter__(self) -> Iterator[Track]:
        return iter(list(self._tracks.values()))

    def __len__(self) -> int:
        return len(self._tracks)

    def __getitem__(self, track: int) -> Track:
        return self._tracks[track]

    def advance(self, time: float) -> list[Track]:
        """Predict all tracks at the time of the next frame.

        Tracks that were not seen for too long are deleted, and those that were not seen in more frames in a row than
        they have observations: a false detection does not last.

        Returns:
            The tracks that remain.
        """
        if self._candidate is not None and self._candidate.seen < self._time:
            self._candidate = None  # it was not observed in the last frame
        self._time = time
        for track in self:
            if track.missed > track.observations or time - track.seen > self.settings.keep:
                del self._tracks[track.id]
            else:
                self._tracks[track.id] = track.predicted(time, self.settings)
        self._predicted, self._certain = dict(self._tracks), {}
        return list(self)

    def match(self, observations: Sequence[Observation]) -> list[int | None]:
        """The track of each observation, None for those that belong to no track.

        The most observations that their gates allow are assigned, with the least sum of costs: the certain ones first,
        then the others to the tracks that are left.
        """
        matched: list[int | None] = [None] * len(observations)
        for certain in (True, False):
            tracks = [track for track in self if track.id not in matched]
            rows = [i for i, observation in enumerate(observations) if observation.certain == certain]
            costs = [[track.cost(observations[i], self.settings) for track in tracks] for i in rows]
            for row, column in assign(costs):
                matched[rows[row]] = tracks[column].id
        return matched

    def observe(self, track: int, observation: Observation) -> Track:
        """Add an observation of the present frame to a track."""
        self._certain[track] = observation.certain
        self._tracks[track] = self._tracks[track].observed(observation, self.settings)
        return self._tracks[track]

    def withdraw(self, track: int) -> None:
        """Take back what turned out not to be the track's hand: its observation of the present frame.

        That of a new track stays, and a certain one of a track that was observed in the last frame too.
        """
        predicted = self._predicted.get(track)
        if predicted is not None and (predicted.missed > 1 or not self._certain[track]):
            self._tracks[track] = predicted

    def vote(self, track: int, right: float) -> Track:
        """Add evidence for the side of a track, log odds as in :class:`Observation`."""
        kept = self._tracks[track]
        self._tracks[track] = replace(kept, right=_limited(kept.right + right))
        return self._tracks[track]

    def start(self, observation: Observation, time: float) -> Track | None:
        """A new track for an observation that belongs to none; None where there is no room.

        If there are as many tracks as allowed, one that was not seen in this frame makes room: the one that was not
        seen for the longest time. Before that, the new hand must be observed in CONFIRMATIONS frames in a row, because
        a hand that is hidden for a moment must not lose its track to a false detection. If it is near the place where
        that track is predicted, or where it was seen last, and not of the other side, it is the same hand, which moved
        otherwise than predicted, and keeps the track's number; one of the same side may be less near.
        """
        if len(self._tracks) < self.most:
            return self._add(_new(0, observation, time, self.settings))
        oldest = min(self._tracks.values(), key=lambda track: track.seen)
        if oldest.seen >= time:
            return None
        before = self._candidate
        if before is not None and before.time >= time:
            return None  # a more certain observation of this frame is the candidate
        if before is not None:
            before = before.predicted(time, self.settings)
            if math.isfinite(before.cost(observation, self.settings)):
                self._candidate = before.observed(observation, self.settings)
                return self._confirmed(self._candidate, oldest)
        self._candidate = _new(0, observation, time, self.settings)
        return None

    def _confirmed(self, candidate: Track, hidden: Track) -> Track | None:
        """What becomes of a candidate that was observed once more and of the track whose place it would take."""
        if candidate.observations < CONFIRMATIONS:
            return None
        del self._tracks[hidden.id]
        distance = min(float(np.linalg.norm(candidate.position - place)) for place in (hidden.position, hidden.last))
        sides = candidate.right * hidden.right
        if sides < 0 or distance > (self.settings.farthest if sides > 0 else self.settings.same_hand):
            return self._add(candidate)
        self._candidate = None
        self._predicted.pop(hidden.id)  # as a new track, it is not withdrawn
        right, observations = _limited(hidden.right + candidate.right), hidden.observations + candidate.observations
        self._tracks[hidden.id] = replace(candidate, id=hidden.id, right=right, observations=observations)
        return self._tracks[hidden.id]

    def _add(self, track: Track) -> Track:
        self._candidate = None
        self._tracks[self._next] = replace(track, id=self._next)
        self._next += 1
        return self._tracks[self._next - 1]

    def remove(self, track: int) -> None:
        """Delete a track."""
        del self._tracks[track]

    def clear(self) -> None:
        """Delete all tracks. Their numbers are not used again."""
        self._tracks.clear()
        self._candidate = None

    def update(self, observations: Sequence[Observation], time: float) -> list[Track | None]:
        """Advance to a frame, assign its observations, and start tracks for those that belong to none.

        Args:
            observations: all hands of the frame, the most certain first.
            time: of the frame, seconds.

        Returns:
            The track of each observation; None for those for which there is no room, and for uncertain ones that
            continue no track.
        """
        self.advance(time)
        matched = self.match(observations)
        tracks: list[Track | None] = [
            None if track is None else self.observe(track, observation)
            for track, observation in zip(matched, observations, strict=True)
        ]
        for i, observation in enumerate(observations):
            if tracks[i] is None and observation.certain:
                tracks[i] = self.start(observation, time)
        return tracks


def _probability(log_odds: float) -> float:
    return 1.0 / (1.0 + math.exp(-log_odds))


def _limited(log_odds: float) -> float:
    return min(max(log_odds, -_MOST_EVIDENCE), _MOST_EVIDENCE)


def _new(number: int, observation: Observation, time: float, settings: TrackSettings) -> Track:
    covariance = np.diag([settings.noise**2, _FIRST_SPEED**2])
    right = _limited(observation.right)
    position = np.asarray(observation.position, np.float64)
    return Track(number, position, np.zeros(3), covariance, right, time, time, position)
