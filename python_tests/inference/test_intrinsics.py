# SPDX-License-Identifier: MIT
"""Intrinsics in every usual form; those in another order, of another size or in mm are refused with the likely ones."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers.drawn_hand import hand

from poseren_ext import CAMERAS, Camera, refine
from poseren_ext.geometry.camera import as_camera
from poseren_ext.inference.camera_check import reordered
from poseren_ext.inference.diagnosis import check_intrinsics

pytestmark = pytest.mark.usefixtures("surface_detection")

CAMERA = Camera(240, 240, 159.5, 119.5)


MATRIX = [[240, 0, 159.5], [0, 240, 119.5], [0, 0, 1]]


@pytest.mark.parametrize(
    "camera",
    [
        (240, 240, 159.5, 119.5),
        np.array([240, 240, 159.5, 119.5]),
        torch.tensor([240, 240, 159.5, 119.5]),
        "240,240,159.5,119.5",
        MATRIX,
        np.array(MATRIX),
        torch.tensor(MATRIX),
        {"fx": 240, "fy": 240, "cx": 159.5, "cy": 119.5},
        {"K": np.ravel(MATRIX).tolist()},
        {"camera_matrix": {"rows": 3, "cols": 3, "data": np.ravel(MATRIX).tolist()}},
        SimpleNamespace(fx=240, fy=240, ppx=159.5, ppy=119.5),
        SimpleNamespace(k=np.ravel(MATRIX)),
    ],
)
def test_every_usual_form_of_intrinsics_is_read(camera):
    assert as_camera(camera) == CAMERA


def test_names_sizes_and_what_is_not_a_camera():
    assert as_camera("sr305") is CAMERAS["sr305"]
    info = SimpleNamespace(fx=240, fy=240, ppx=159.5, ppy=119.5, width=320, height=240)
    assert as_camera(info) == Camera(240, 240, 159.5, 119.5, 320, 240)
    for wrong in (3, None, (1, 2, 3), np.eye(2), {"fx": 240}, object()):
        with pytest.raises(TypeError, match="camera is"):
            as_camera(wrong)
    with pytest.raises(ValueError, match="camera matrix"):
        as_camera(np.array([[240, 5, 159.5], [0, 240, 119.5], [0, 0, 1]]))


@pytest.mark.parametrize(
    "distortion",
    [
        {"D": [0.1, 0, 0, 0, 0]},
        {"d": np.array([0.0, 0.2])},
        {"distortion_coefficients": {"rows": 1, "cols": 5, "data": [0, 0, 0, 0, -0.3]}},
        {"coeffs": torch.tensor([0.1])},
    ],
)
def test_distortion_beside_intrinsics_is_not_ignored_silently(distortion):
    with pytest.warns(UserWarning, match=r"distortion coefficients .* are not used; undistort"):
        assert as_camera({"K": np.ravel(MATRIX).tolist(), **distortion}) == CAMERA


def test_realsense_intrinsics_warn_of_distortion_only_where_there_is_some():
    inner = SimpleNamespace(fx=240, fy=240, ppx=159.5, ppy=119.5, coeffs=[0.0] * 5)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert as_camera(inner) == CAMERA
    inner.coeffs[2] = 0.01
    with pytest.warns(UserWarning, match="distortion coefficients"):
        as_camera(inner)


@pytest.mark.parametrize(
    ("camera", "says"),
    [
        ((159.5, 119.5, 240, 240), "in the order cx, cy, fx, fy"),
        ((240, 159.5, 240, 119.5), "in the order fx, cx, fy, cy"),
        ((240, 240, 119.5, 159.5), "landscape camera, for portrait"),
    ],
)
def test_intrinsics_in_another_order_are_recognised(camera, says):
    with pytest.raises(ValueError, match=says) as caught:
        refine(hand(), camera=camera)
    assert "fx,fy,cx,cy = 240,240,159.5,119.5" in str(caught.value)
    finding, usable = check_intrinsics(Camera(*camera), (240, 320))
    assert finding.kind == "fault"
    assert says in finding.text
    assert usable == CAMERA


@pytest.mark.parametrize("camera", [CAMERA, Camera(240, 240, 150, 100), Camera(475, 470, 160, 120)])
def test_plausible_intrinsics_are_not_called_reordered(camera):
    assert reordered(camera, (240, 320)) is None


@pytest.mark.parametrize("scale", [0.25, 0.5, 0.75, 1.25, 2.0, 4.0])
def test_intrinsics_of_another_size_are_refused_with_those_that_fit(scale):
    camera = Camera(*(scale * value for value in (240, 240, 160, 120)))
    with pytest.raises(ValueError, match=r"does not fit the frames: .*frames resized from there have 2[34]") as caught:
        refine(hand(), camera=camera)
    assert f"belong to about {2 * camera.cx + 1:.0f}x{2 * camera.cy + 1:.0f}" in str(caught.value)


@pytest.mark.parametrize("focal", [0.19, 1.93, 4.0])
def test_focal_lengths_in_millimetres_are_refused(focal):
    with pytest.raises(ValueError, match="in pixels, not in millimetres"):
        refine(hand(), camera=(focal, focal, 159.5, 119.5))


@pytest.mark.parametrize("camera", [(240, 240, 90, 119.5), (1200, 1200, 159.5, 119.5), (240, 240, 175, 110)])
def test_intrinsics_of_frames_that_were_cut_out_are_taken(camera):
    assert np.isfinite(refine(hand() if camera[0] == 240 else hand(mm=2000, radius=45 * 5), camera=camera).joints).all()


@pytest.mark.parametrize(("true", "given"), [(1, 0.125), (1, 10), (0.25, 1), (0.1, 1), (10, 1), (0.125, 1)])
def test_no_hand_in_a_wrong_unit_names_the_unit(true, given):
    frame = hand(mm=560) / np.float32(true)
    with pytest.raises(ValueError, match="depth_unit=") as caught:
        refine(frame, camera=CAMERA, depth_unit=given)
    assert f"depth_unit={true:g} (" in str(caught.value) or f" or {true:g} (" in str(caught.value)


@pytest.mark.parametrize(
    ("camera", "says"),
    [
        (np.eye(3), "cx and cy are 0"),
        (np.diag([240.0, 240.0, 1.0]), "cx and cy are 0"),
        ((240.0, 240.0, 0.0, 0.0), "cx and cy are 0"),
        ((2.0, 2.0, 100.0, 60.0), "fx, fy in pixels"),
        ((20.0, 20.0, 300.0, 20.0), "fx, fy in pixels"),
    ],
)
def test_intrinsics_without_principal_point_or_focal_length_are_refused(camera, says):
    with pytest.raises(ValueError, match=says):
        refine(hand(), camera=camera)
