# SPDX-License-Identifier: MIT
"""Frames without a usable hand raise an error, give NaN, or are skipped, as `missing` says."""

import pickle

import numpy as np
import pytest
import torch
from helpers.drawn_hand import DRAWN_CAMERA as CAMERA
from helpers.drawn_hand import hand

from poseren_ext import HandDistanceError, NoHandError, refine

pytestmark = pytest.mark.usefixtures("surface_detection")


def test_a_frame_without_a_hand_raises_or_gives_nan(estimator, frames):
    wall = np.full_like(frames[0], 900)
    mixed = np.stack([frames[0], wall, frames[1]])
    with pytest.raises(NoHandError, match=r"no hand in frames \[1\]") as caught:
        estimator(mixed)
    assert caught.value.frames == (1,)
    joints = estimator(mixed, missing="nan").joints
    assert np.isnan(joints[1]).all()
    np.testing.assert_allclose(joints[[0, 2]], estimator(frames[:2]).joints, atol=1e-3)
    with pytest.raises(ValueError, match="missing is 'none'"):
        estimator(mixed, missing="none")


EMPTY = {
    "no depth": lambda frame: frame * 0,
    "only NaN": lambda frame: frame * np.float32(np.nan),
    "a wall": lambda frame: np.full_like(frame, 900),
    "a hand 3 m away": lambda frame: hand(mm=3000.0, radius=140.0),
    "a hand 60 mm away": lambda frame: hand(mm=60.0, radius=20.0),
}


@pytest.mark.parametrize("kind", EMPTY)
@pytest.mark.filterwarnings("ignore:the hand in frame")
def test_every_frame_without_a_usable_hand_raises_or_gives_nan(estimator, frames, kind):
    bad = EMPTY[kind](frames[1])
    mixed = np.stack([frames[0], bad, frames[2]])
    with pytest.raises(ValueError, match=r"frames? \[?1|frame 1"):
        estimator(mixed)
    joints = estimator(mixed, missing="nan").joints
    assert np.isnan(joints[1]).all()
    np.testing.assert_allclose(joints[[0, 2]], estimator(frames[[0, 2]]).joints, atol=1e-3)
    assert np.isnan(estimator(bad, missing="nan").joints).all()


def test_a_hand_out_of_range_that_gives_nan_is_warned_of(estimator):
    center = np.float32([[160, 110, 500], [160, 110, 4800]])
    with pytest.warns(UserWarning, match=r"hand in frame 1 is 4800 mm away .*=0.125 \(.*; it has no joints"):
        pose = estimator(np.stack([hand(), hand(mm=4800.0, radius=450.0)]), center=center, missing="nan")
    assert np.isfinite(pose.joints[0]).all()
    assert np.isnan(pose.joints[1]).all()


@pytest.mark.parametrize("given", ["center", "init_pose"])
def test_nan_for_a_frame_that_is_given_raises_or_gives_nan(estimator, frames, given):
    pose = estimator(frames)
    values = {"center": pose.center, "init_pose": pose.uvd}[given].copy()
    values[2] = np.nan
    with pytest.raises(ValueError, match=r"NaN|finite"):
        estimator(frames, **{given: values})
    joints = estimator(frames, missing="nan", **{given: values}).joints
    assert np.isnan(joints).any((1, 2)).tolist() == [False, False, True, False]


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("kind", EMPTY)
@pytest.mark.filterwarnings("ignore:the hand in frame")
def test_skip_leaves_frames_without_a_usable_hand_out(estimator, frames, kind, as_tensor, tmp_path):
    mixed = np.stack([EMPTY[kind](frames[1]), frames[0], EMPTY[kind](frames[1]), frames[2]])
    pose = estimator(torch.from_numpy(mixed) if as_tensor else mixed, missing="skip", return_stages=True)
    assert isinstance(pose.frame, torch.Tensor if as_tensor else np.ndarray)
    assert pose.frame.tolist() == [1, 3]
    expected = estimator(frames[[0, 2]], return_stages=True)
    for name in ("joints", "uvd", "center", "stages", "stages_run"):
        np.testing.assert_allclose(getattr(pose, name), getattr(expected, name), atol=1e-3)
    assert len(pose.hand) == 2
    pose.save(tmp_path / "poses.csv")
    assert [line.split(",")[0] for line in (tmp_path / "poses.csv").read_text().splitlines()[1:]] == ["1", "3"]
    none = estimator(mixed[[0, 2]], missing="skip")
    assert none.joints.shape == (0, 21, 3)
    assert none.frame.tolist() == []


@pytest.mark.parametrize("given", ["center", "init_pose"])
def test_skip_leaves_frames_with_nan_out(estimator, frames, given):
    pose = estimator(frames)
    values = {"center": pose.center, "init_pose": pose.uvd}[given].copy()
    values[[0, 3]] = np.nan
    assert estimator(frames, missing="skip", **{given: values}).frame.tolist() == [1, 2]


def test_skip_among_frames_of_several_sizes(model, estimator, frames):
    smaller, empty = frames[1][:236, :316], frames[0] * 0
    pose = refine([frames[0], empty, smaller], model, camera=CAMERA, missing="skip")
    assert pose.frame.tolist() == [0, 2]
    assert pose.joints.shape == (2, 21, 3)
    with pytest.raises(NoHandError, match=r"^frame 1 of the list: ") as caught:
        refine([frames[0], np.full_like(smaller, 900)], model, camera=CAMERA)
    assert caught.value.frames == (1,)


def test_skip_needs_a_batch_and_a_known_word(estimator, frames):
    with pytest.raises(ValueError, match="expected a batch"):
        estimator(frames[0], missing="skip")
    for wrong in ("SKIP", None, True, "stop"):
        with pytest.raises(ValueError, match="missing is"):
            estimator(frames, missing=wrong)


@pytest.mark.parametrize("kind", EMPTY)
@pytest.mark.filterwarnings("ignore:the hand in frame")
def test_several_hands_of_frames_without_a_usable_one(frames, kind):
    mixed = np.stack([EMPTY[kind](frames[1]), frames[0]])
    hands = refine(mixed, camera=CAMERA, max_hands=2, missing="skip")
    assert [len(hands[i].hand) for i in range(len(hands))] == [0, 1]
    with pytest.raises(ValueError, match="has no rows"):
        refine(mixed, camera=CAMERA, max_hands=2, missing="nan")


def test_errors_reach_the_parent_of_a_process():
    copy = pickle.loads(pickle.dumps(NoHandError("no hand", [1, 2])))
    assert (str(copy), copy.frames) == ("no hand", (1, 2))
    assert str(pickle.loads(pickle.dumps(HandDistanceError("far")))) == "far"
