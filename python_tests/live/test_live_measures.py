# SPDX-License-Identifier: MIT
"""The measures of live tracking: their formulas on known signals, and short runs with the real pipeline."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.live_frames import CAMERA

from poseren_ext import Estimator
from poseren_ext.live import HandTracker, OneEuroFilter
from poseren_ext.live.tracks import Observation, TrackSet
from tools.live.__main__ import noise_and_lag, track_numbers
from tools.live.sequences import RATE, crossing_hands, crossing_path


def wave(count: int) -> np.ndarray:
    """Joints [count, 2, 3] on smooth curves: they move together, and less against each other, like those of a hand."""
    time = np.arange(count)[:, None, None] / 9
    return np.asarray(80 * np.sin(time + np.arange(3)) + 20 * np.sin(time + np.arange(6).reshape(1, 2, 3)))


def test_noise_and_lag_of_known_signals() -> None:
    truth = wave(90)
    late = noise_and_lag([(wave(91)[:-1][np.maximum(np.arange(90) - 2, 0)], truth)])
    assert late["lag"] == pytest.approx(2, abs=0.05)
    random = np.random.default_rng(0).normal(size=truth.shape)
    noisy = noise_and_lag([(truth + random, truth)])
    expected = np.sqrt(1 + 6 / np.mean(np.diff(truth, 2, axis=0) ** 2))  # white noise: 1 + 4 + 1 times its variance
    assert noisy["noise"] == pytest.approx(expected, rel=0.05)
    assert noisy["lag"] == pytest.approx(0, abs=0.1)
    lost = truth + random
    lost[20:25] = np.nan
    assert noise_and_lag([(lost, truth)])["lost"] == 5


def test_the_filter_removes_most_noise_at_a_lag_below_one_frame() -> None:
    truth = wave(200)
    noisy = truth + 3 * np.random.default_rng(1).normal(size=truth.shape)
    smooth = OneEuroFilter()
    filtered = np.stack([smooth(frame, i / RATE) for i, frame in enumerate(noisy)])
    raw, ours = noise_and_lag([(noisy, truth)]), noise_and_lag([(filtered, truth)])
    assert ours["noise"] < 0.3 * raw["noise"]
    assert ours["lag"] < 1


@pytest.mark.parametrize("seed", range(3))
def test_no_track_changes_in_2000_frames_of_crossing_centres(seed: int) -> None:
    random, tracks = np.random.default_rng(seed), TrackSet(2)
    ids = []
    for i, hands in enumerate(crossing_path(2000)):
        order = random.permutation(2)
        noisy = hands[order] + random.normal(0, 8, (2, 3))
        found = tracks.update([Observation(position) for position in noisy], i / RATE)
        ids.append([found[k].id for k in np.argsort(order)])  # type: ignore[union-attr]  # there is room for both
    assert ids == [ids[0]] * 2000


def test_crossing_hands_keep_their_tracks_in_the_real_pipeline() -> None:
    tracker = HandTracker(Estimator("demo", camera=CAMERA, hand="auto"), max_hands=2)
    report = track_numbers(crossing_hands(22, 50, CAMERA), tracker)  # they cross after 30 frames
    assert report["switches"] == 0
    assert all(len(counts) == 1 and sum(counts.values()) > 30 for counts in report["tracks"])
    assert report["side_right"] > 0.9
