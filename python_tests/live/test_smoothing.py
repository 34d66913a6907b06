# SPDX-License-Identifier: MIT
"""The One Euro filter, compared with the formulas of the paper and with signals whose result is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from poseren_ext.live.smoothing import OneEuroFilter, OneEuroSettings


def published(values: list[float], rate: float, mincutoff: float, beta: float, dcutoff: float) -> list[float]:
    """Algorithms 1 and 2 of the paper for one signal, literally."""

    def alpha(cutoff: float) -> float:
        return 1.0 / (1.0 + (1.0 / (2 * math.pi * cutoff)) / (1.0 / rate))

    filtered, derivative, results = 0.0, 0.0, []
    for i, x in enumerate(values):
        dx = 0.0 if i == 0 else (x - filtered) * rate
        derivative = dx if i == 0 else alpha(dcutoff) * dx + (1 - alpha(dcutoff)) * derivative
        a = alpha(mincutoff + beta * abs(derivative))
        filtered = x if i == 0 else a * x + (1 - a) * filtered
        results.append(filtered)
    return results


def test_equals_the_published_algorithm() -> None:
    random = np.random.default_rng(0)
    signal = (50 * np.sin(np.arange(60) / 7) + random.normal(size=60)).tolist()
    one = OneEuroFilter(OneEuroSettings(min_cutoff=1.2, beta=0.03, derivative_cutoff=0.8, trend=0.0, own_trend=0.0))
    ours = [one(np.array([[value, 0.0, 0.0]]), i / 30)[0, 0] for i, value in enumerate(signal)]
    np.testing.assert_allclose(ours, published(signal, 30.0, 1.2, 0.03, 0.8), rtol=1e-9)


def test_noise_at_rest_is_reduced_and_fast_motion_follows() -> None:
    random = np.random.default_rng(1)
    noise = random.normal(size=(300, 21, 3))
    one = OneEuroFilter()
    at_rest = np.stack([one(frame, i / 30) for i, frame in enumerate(noise)])[30:]
    assert at_rest.std() < 0.6 * noise.std()
    one.reset()
    moving = np.arange(90)[:, None, None] * 30.0 + np.zeros((1, 21, 3))  # 1.6 m/s
    last = [one(frame, i / 30) for i, frame in enumerate(moving)][-1]
    assert 0 <= float(moving[-1, 0, 0] - last[0, 0]) < 0.9 * 30.0  # less than a frame behind


def test_each_trend_reduces_the_lag_of_its_part_of_the_motion() -> None:
    together, apart = np.ones((2, 3)), np.array([[1.0, 1.0, 1.0], [-1.0, -1.0, -1.0]])

    def lag(motion: np.ndarray, trend: float, own_trend: float) -> float:
        settings = OneEuroSettings(min_cutoff=1.0, beta=0.0, derivative_cutoff=2.0, trend=trend, own_trend=own_trend)
        one = OneEuroFilter(settings)
        return [30.0 * i - one(motion * 30.0 * i, i / 30)[0, 0] for i in range(120)][-1]

    settled = 30.0 * 30.0 / (2 * math.pi * 1.0)  # step * time constant: the lag of an exponential filter on a ramp
    for motion in (together, apart):
        assert lag(motion, 0.0, 0.0) == pytest.approx(settled, rel=0.01)
    assert lag(together, 0.0, 0.5) == pytest.approx(settled, rel=0.01)
    assert lag(apart, 0.5, 0.0) == pytest.approx(settled, rel=0.01)
    assert 0 < lag(together, 0.5, 0.0) < 0.6 * settled
    assert lag(apart, 0.0, 0.5) == pytest.approx(lag(together, 0.5, 0.0))


def test_the_result_turns_with_the_axes() -> None:
    random = np.random.default_rng(2)
    frames = random.normal(size=(20, 5, 3)).cumsum(0) * 10
    rotation = np.linalg.qr(random.normal(size=(3, 3)))[0]
    first, second = OneEuroFilter(), OneEuroFilter()
    for i, frame in enumerate(frames):
        np.testing.assert_allclose(first(frame, i / 30) @ rotation.T, second(frame @ rotation.T, i / 30), atol=1e-9)


def test_uneven_times_repeated_times_and_reset() -> None:
    one = OneEuroFilter()
    start, end = np.zeros((1, 3)), np.ones((1, 3))
    one(start, 0.0)
    short = one(end, 0.01)
    one.reset()
    one(start, 0.0)
    long = one(end, 0.5)
    assert 0 < short[0, 0] < long[0, 0] < 1  # the longer the step, the less of the past is left
    assert (one(end, 0.5) == end).all()  # a time that does not advance starts again
    one.reset()
    assert (one(start, 7.0) == start).all()


@pytest.mark.parametrize(
    "settings",
    [{"min_cutoff": 0.0}, {"beta": -1.0}, {"derivative_cutoff": math.inf}, {"trend": 1.5}, {"own_trend": -0.1}],
)
def test_invalid_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        OneEuroSettings(**settings)
