# SPDX-License-Identifier: MIT
"""Centres, initial poses, cubes, depths and settings are checked before anything is computed."""

import numpy as np
import pytest
import torch
from helpers.drawn_hand import hand

from poseren_ext import Camera, Estimator, HandDistanceError, find_hands

pytestmark = pytest.mark.usefixtures("surface_detection")

CAMERA = Camera(240, 240, 159.5, 119.5)


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator(camera=CAMERA)


@pytest.mark.parametrize(
    ("center", "says"),
    [
        ((5000, 5000, 500), "outside the 320x240 frame"),
        ((-30, 100, 500), "outside"),
        ((20, 20, 500), "no depth is in the cube"),
        ((160, 110, 1500), "no depth is in the cube"),
        ((160, 110, 0.5), "looks like metres"),
        ((1.0, -17.0, 500), "looks like x, y, z in mm"),
    ],
)
def test_refuses_centres_that_are_not_at_a_hand(estimator, center, says):
    with pytest.raises(ValueError, match=says):
        estimator(hand(), center=center)


def test_takes_the_centre_of_a_hand_that_the_border_cuts(estimator):
    frame = hand(u=5)
    assert np.isfinite(estimator(frame, center=(-6.0, 110.0, 500.0)).joints).all()


def test_a_cube_without_depth_gives_nan_where_that_is_asked_for(estimator):
    frames = np.stack([hand(), hand()])
    centers = np.float32([[160, 110, 500], [20, 20, 500]])
    joints = estimator(frames, center=centers, missing="nan").joints
    assert np.isfinite(joints[0]).all()
    assert np.isnan(joints[1]).all()
    with pytest.raises(ValueError, match="outside"):
        estimator(frames, center=centers + np.float32([9000, 0, 0]), missing="nan")


def test_refuses_initial_poses_in_another_space_or_unit(estimator):
    pose = estimator(hand())
    estimator(hand(), init_pose=pose.uvd)
    estimator(hand(), init_pose=pose.joints, init_space="xyz")
    for wrong in (pose.joints, pose.uvd * [1, 1, -1], pose.uvd * [1, 1, 1e-3], pose.uvd + np.float32([300, 0, 0])):
        with pytest.raises(ValueError, match="init_pose of frames"):
            estimator(hand(), init_pose=wrong.astype(np.float32))


@pytest.mark.parametrize(("stored", "unit"), [(8, "0.125"), (10, "0.1"), (4, "0.25")])
def test_a_hand_metres_away_is_an_error_that_names_the_unit(estimator, stored, unit):
    with pytest.raises(HandDistanceError, match=rf"\b{unit} \("):
        estimator(hand(mm=600) * stored, center=(160, 110, 600.0 * stored))


@pytest.mark.parametrize("cube", [0.15, 15, 29.9, 501, 1e6, True, np.float32(0.3)])
def test_cubes_that_hold_no_hand_are_refused(cube):
    with pytest.raises(ValueError, match="cube is"):
        Estimator(camera=CAMERA, cube=cube)


@pytest.mark.parametrize("setting", ["stages", "tta", "depth_unit", "cube"])
def test_settings_are_numbers_of_any_kind_but_truth_values(setting):
    value = {"stages": 2, "tta": 1, "depth_unit": 1, "cube": 150}[setting]
    for kind in (np.int32, np.int64, np.uint8):
        assert getattr(Estimator(camera=CAMERA, **{setting: kind(value)}), setting) == value
    for wrong in (True, "1", None, 1j, [1]):
        with pytest.raises(ValueError, match=f"{setting} is"):
            Estimator(camera=CAMERA, **{setting: wrong})


NO_FRAME = {
    "meta": lambda: torch.empty(240, 320, device="meta"),
    "sparse_coo": lambda: torch.zeros(240, 320).to_sparse(),
    "sparse_csr": lambda: torch.zeros(240, 320).to_sparse_csr(),
    "dense": lambda: torch.nested.nested_tensor([torch.zeros(240, 320)]),
    "3 channels": lambda: np.zeros((240, 320, 3), np.uint16),
    "2 channels": lambda: np.zeros((240, 320, 2), np.float32),
    "4 channels": lambda: torch.zeros(240, 320, 4),
}


@pytest.mark.parametrize("says", NO_FRAME)
@pytest.mark.filterwarnings("ignore:Sparse CSR", "ignore:The PyTorch API of nested")
def test_what_holds_no_frame_is_named(estimator, says):
    with pytest.raises((TypeError, ValueError), match=rf"^depth has .*{says}"):
        estimator(NO_FRAME[says]())


@pytest.mark.parametrize("center", [["160", "110", "500"], np.array([160, None, 500]), {"u": 1}, [[1, 2], [3]]])
def test_centres_that_are_no_numbers_are_named(estimator, center):
    with pytest.raises((TypeError, ValueError), match=r"center (is|has)"):
        estimator(hand(), center=center)


@pytest.mark.parametrize("count", [0, -1, 1.5, "2", None, True])
def test_numbers_of_hands_that_are_none_are_refused(count):
    with pytest.raises(ValueError, match="max_hands is"):
        find_hands(hand(), CAMERA, count)
