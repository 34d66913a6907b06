# SPDX-License-Identifier: MIT
"""Smoothing of joints: the One Euro filter.

Source: G. Casiez, N. Roussel, D. Vogel: 1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in
Interactive Systems. CHI 2012, algorithms 1 and 2. The trend, which the paper's filter lacks, is that of double
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
        trend: share of the velocity by which a point is moved before a new value is added: less lag at the same noise,
            but a point that stops overshoots. 0 gives the filter of the paper.

    The defaults are the least noise with a lag of less than a frame on synthetic sequences of 30 frames per second.

    Raises:
        ValueError: A cutoff frequency is not positive, beta is negative, or trend is not in [0, 1].
    """

    min_cutoff: float = 1.0
    beta: float = 0.0006
    derivative_cutoff: float = 2.5
    trend: float = 0.5

    def __post_init__(self) -> None:
        for name in ("min_cutoff", "derivative_cutoff"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; expected a positive frequency in Hz")
        if not 0 <= self.beta < math.inf:
            raise ValueError(f"beta is {self.beta}; expected 0 or a positive number of Hz per mm/s")
        if not 0 <= self.trend <= 1:
            raise ValueError(f"trend is {self.trend}; expected a share from 0 to 1")


class OneEuroFilter:
    """A low-pass filter of points whose cutoff frequency rises with their speed.

    At rest it removes jitter; in fast motion it adds little lag. All coordinates of a point share the cutoff frequency
    of its speed, so that the result does not depend on the direction of the axes.

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
            predicted = self._points + settings.trend * step * self._velocity
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
