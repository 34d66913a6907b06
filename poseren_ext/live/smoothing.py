# SPDX-License-Identifier: MIT
"""Smoothing of joints: the One Euro filter.

Source: G. Casiez, N. Roussel, D. Vogel: 1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
Interactive Systems. CHI 2012, algorithms 1 and 2. The trends, which the paper's filter lacks, are those of double
exponential smoothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class OneEuroSettings:
    """Parameters of the filter, for coordinates in mm and times in seconds.

    Attributes:
        min_cutoff: cutoff frequency of a joint at rest, Hz. A lower value removes more noise.
        beta: increase of the cutoff frequency with the speed of the joint, Hz per mm/s. A higher value gives less lag.
        derivative_cutoff: cutoff frequency of the filter of the velocity, Hz.
        trend: share of the mean velocity of all points by which they are moved before new values are added: less lag at
            the same noise, but points that stop overshoot.
        own_trend: likewise, of the difference between a point's velocity and that mean. It is noisier than the mean.

    Without trends this is the filter of the paper. The defaults have little noise with a lag of less than a frame on
    synthetic sequences of 30 frames per second.

    Raises:
        ValueError: A cutoff frequency is not positive, beta is negative, or a trend is not in [0, 1].
    """

    min_cutoff: float = 1.0
    beta: float = 0.0004
    derivative_cutoff: float = 3.0
    trend: float = 0.6
    own_trend: float = 0.3

    def __post_init__(self) -> None:
        for name in ("min_cutoff", "derivative_cutoff"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a positive frequency in Hz")
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta is {self.beta}; expected 0 or a positive number of Hz per mm/s")
        for name in ("trend", "own_trend"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a share from 0 to 1")


class OneEuroFilter:
    """A low-pass filter of points whose cutoff frequency rises with their speed.

    At rest it removes jitter; in fast motion it adds little lag. All coordinates of a point share the cutoff frequency
    of its speed, so that the result does not depend on the direction of the axes. The points are those of one hand and
    share the trend of their mean.

    Args:
        settings: the parameters.
    """

    def __init__(self, settings: OneEuroSettings | None = None) -> None:
        self.settings = settings or OneEuroSettings()
        self._time = -math.inf
        self._points: Array | None = None
        self._velocity: Array | None = None

    def reset(self) -> None:
        """Forget the past: the next points are returned as they are."""
        self._points = self._velocity = None
        self._time = -math.inf

    def __call__(self, points: npt.NDArray[Any], time: float) -> Array:
        """Filter the points of the next frame.

        Args:
            points: [..., 3], mm.
            time: time of the frame in seconds. The filter is reset if it is not later than the last one.

        Returns:
            The filtered points, of the same shape.
        """
        points = np.asarray(points, np.float64)
        step = time - self._time
        if self._points is None or self._velocity is None or not 0 < step < math.inf:
            self._points, self._velocity = points, np.zeros_like(points)
        else:
            settings = self.settings
            common = self._velocity.mean(tuple(range(points.ndim - 1)), keepdims=True)
            trend = settings.trend * common + settings.own_trend * (self._velocity - common)
            predicted = self._points + step * trend
            velocity = (points - self._points) / step
            self._velocity = self._velocity + _alpha(settings.derivative_cutoff, step) * (velocity - self._velocity)
            speed = np.linalg.norm(self._velocity, axis=-1, keepdims=True)
            alpha = _alpha(settings.min_cutoff + settings.beta * speed, step)
            self._points = predicted + alpha * (points - predicted)
        self._time = time
        filtered: Array = self._points.copy()
        return filtered


def _alpha(cutoff: Any, step: float) -> Any:
    """Weight of the new value in an exponential filter with a cutoff frequency in Hz, after a step in seconds."""
    time_constant = 1.0 / (2.0 * math.pi * cutoff)
    return 1.0 / (1.0 + time_constant / step)
