# SPDX-License-Identifier: MIT
"""All hands of each frame: a ragged result that does not depend on the other frames."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.live_frames import CAMERA, moving, two_hands

from poseren_ext import Estimator, HandDistanceError, find_hands, refine
from poseren_ext.inference import frame_hands

EMPTY = np.full((240, 320), 3000, np.uint16)


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    """Frames with 2, 1, 0, 2 and 1 hands."""
    return np.stack([two_hands(1)[0], *moving(1), EMPTY, two_hands(9)[8], moving(3)[2]])


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator("demo", camera=CAMERA, hand="auto")


def test_every_detected_hand_has_a_pose_side_and_score(estimator: Estimator, frames: np.ndarray) -> None:
    hands = refine(frames, camera=CAMERA, hand="auto", max_hands=2, return_stages=True)
    found = [find_hands(frame, CAMERA, 2) for frame in frames]
    assert len(hands) == 5
    assert [len(hands[i].hand) for i in range(5)] == [len(one) for one in found]
    assert hands.frame.tolist() == [i for i, one in enumerate(found) for _ in one]
    np.testing.assert_allclose(hands.score, [hand.score for one in found for hand in one], rtol=1e-6)
    np.testing.assert_allclose(hands.pose.center, [hand.center for one in found for hand in one], rtol=1e-5)
    assert set(hands[0].hand) == {"left", "right"}
    assert hands[2].joints.shape == (0, 21, 3)
    assert hands[-2].stages.shape == (4, 2, 21, 3)
    with pytest.raises(IndexError, match="5"):
        hands[5]


def test_answers_do_not_depend_on_other_frames(estimator: Estimator, frames: np.ndarray) -> None:
    together = estimator.hands(frames)
    order = [3, 2, 0, 4, 1]
    permuted = estimator.hands(frames[order])
    split = [estimator.hands(frames[i : i + 1]) for i in range(5)]
    cut = frames[1][:, :300]
    listed = Estimator("demo", camera=replace(CAMERA, width=None, height=None), hand="auto").hands(
        [frames[0], cut, *frames[2:]]  # a frame of another size
    )
    for i in range(5):
        others = [permuted[order.index(i)], split[i][0], *([listed[i]] if i != 1 else [])]
        for other in others:
            assert other.hand == together[i].hand
            np.testing.assert_allclose(other.joints, together[i].joints, atol=1e-2)


@pytest.mark.parametrize("shift", [(8, 0), (0, -8), (1, 1)])
def test_a_shifted_image_with_its_camera_shifted_gives_the_same_hands(
    estimator: Estimator, frames: np.ndarray, shift: tuple[int, int]
) -> None:
    moved = Estimator("demo", camera=replace(CAMERA, cx=CAMERA.cx + shift[0], cy=CAMERA.cy + shift[1]), hand="auto")
    here, there = estimator.hands(frames[:1]), moved.hands(np.roll(frames[:1], shift, axis=(2, 1)))
    assert sorted(here.pose.hand) == sorted(there.pose.hand) == ["left", "right"]
    order = [there.pose.hand.index(side) for side in here.pose.hand]  # the more certain hand comes first
    assert np.linalg.norm(here.pose.joints - there.pose.joints[order], axis=-1).mean() < 10


def test_the_result_has_the_kind_of_the_frames_even_without_a_hand(estimator: Estimator, frames: np.ndarray) -> None:
    for given in (torch.from_numpy(frames[:1]), torch.from_numpy(EMPTY)):
        assert isinstance(estimator.hands(given).pose.joints, torch.Tensor)
    nothing = estimator.hands(EMPTY)
    assert (len(nothing), len(nothing.frame)) == (1, 0)
    assert isinstance(nothing.pose.joints, np.ndarray)


def test_mistakes_are_refused(estimator: Estimator, frames: np.ndarray) -> None:
    with pytest.raises(ValueError, match="one hand per frame"):
        refine(frames, camera=CAMERA, max_hands=2, center=(1, 2, 500))
    with pytest.raises(ValueError, match="max_hands is 0"):
        refine(frames, camera=CAMERA, max_hands=0)


def test_hands_out_of_reach_are_left_out_unless_there_are_no_others(
    estimator: Estimator, frames: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    (hand,) = find_hands(frames[1], CAMERA, 1)
    far = replace(hand, center=(*hand.center[:2], 2500.0))
    monkeypatch.setattr(frame_hands, "find_hands", lambda *arguments, **options: [[far, hand]])
    assert estimator.hands(frames[1]).frame.tolist() == [0]
    monkeypatch.setattr(frame_hands, "find_hands", lambda *arguments, **options: [[far]])
    with pytest.raises(HandDistanceError, match="2500 mm away"):
        estimator.hands(frames[1])
