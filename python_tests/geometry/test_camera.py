# SPDX-License-Identifier: MIT
from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poseren_ext.geometry.camera import CAMERAS, Camera, intrinsics, uvd_to_xyz, xyz_to_uvd

CAMERA = Camera(500.0, 400.0, 320.0, 240.0)


def test_worked_by_hand() -> None:
    xyz = torch.tensor([[100.0, -50.0, 1000.0], [0.0, 0.0, 250.0]])
    uvd = torch.tensor([[370.0, 220.0, 1000.0], [320.0, 240.0, 250.0]])
    torch.testing.assert_close(xyz_to_uvd(xyz, CAMERA), uvd)
    torch.testing.assert_close(uvd_to_xyz(uvd, CAMERA), xyz)


def test_y_up_turns_the_sign_of_y_alone() -> None:
    uvd = torch.tensor([[370.0, 220.0, 1000.0]])
    torch.testing.assert_close(uvd_to_xyz(uvd, CAMERA, y_up=True), torch.tensor([[100.0, 50.0, 1000.0]]))
    torch.testing.assert_close(xyz_to_uvd(uvd_to_xyz(uvd, CAMERA, y_up=True), CAMERA, y_up=True), uvd)


@settings(deadline=None, max_examples=50)
@given(
    camera=st.sampled_from(list(CAMERAS)),
    points=st.lists(
        st.tuples(st.floats(-500, 1500), st.floats(-500, 1500), st.floats(1, 5000)), min_size=1, max_size=20
    ),
    y_up=st.booleans(),
)
def test_the_conversions_are_inverses(camera: str, points: list[tuple[float, float, float]], y_up: bool) -> None:
    uvd = np.array(points)
    there_and_back = xyz_to_uvd(uvd_to_xyz(uvd, CAMERAS[camera], y_up=y_up), CAMERAS[camera], y_up=y_up)
    np.testing.assert_allclose(there_and_back, uvd, rtol=1e-12, atol=1e-9)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_numpy_in_numpy_out(dtype: type) -> None:
    uvd = np.array([[[1.0, 2.0, 3.0]]], dtype=dtype)
    xyz = uvd_to_xyz(uvd, CAMERA)
    assert isinstance(xyz, np.ndarray)
    assert xyz.dtype == dtype
    assert xyz.shape == uvd.shape


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_in_torch_out_with_a_gradient(dtype: torch.dtype) -> None:
    uvd = torch.rand(4, 5, 3, dtype=dtype).add_(1).requires_grad_()
    xyz = uvd_to_xyz(uvd, CAMERA)
    assert xyz.dtype == dtype
    xyz.sum().backward()
    assert uvd.grad is not None
    assert uvd.grad.isfinite().all()


def test_a_camera_for_each_sample() -> None:
    cameras = torch.tensor([[500.0, 400.0, 320.0, 240.0], [240.0, 240.0, 160.0, 120.0]], dtype=torch.float64)
    uvd = torch.rand(2, 7, 3, dtype=torch.float64) * 100 + 1
    both = uvd_to_xyz(uvd, cameras)
    for sample in range(2):
        torch.testing.assert_close(both[sample], uvd_to_xyz(uvd[sample], cameras[sample]))
    with pytest.raises(ValueError, match="2 cameras for points of shape"):
        uvd_to_xyz(uvd[:1], cameras)


@pytest.mark.parametrize("depth", [0.0, -1.0, float("nan"), float("inf")])
@pytest.mark.parametrize("convert", [uvd_to_xyz, xyz_to_uvd])
def test_a_depth_that_is_none_is_refused_or_becomes_nan(convert, depth: float) -> None:
    points = np.array([[1.0, 2.0, 3.0], [1.0, 2.0, depth]])
    with pytest.raises(ValueError, match=r"1 points whose depth is not positive.*the first at \[1\].*check=False"):
        convert(points, CAMERA)
    lenient = convert(points, CAMERA, check=False)
    assert np.isfinite(lenient[0]).all()
    assert np.isnan(lenient[1]).all()


def test_what_is_no_list_of_points_is_refused() -> None:
    with pytest.raises(TypeError, match="list; expected a floating-point tensor or numpy array"):
        uvd_to_xyz([[1.0, 2.0, 3.0]], CAMERA)
    with pytest.raises(TypeError, match="int64"):
        uvd_to_xyz(np.ones((2, 3), dtype=np.int64), CAMERA)
    with pytest.raises(ValueError, match=r"shape \(3, 2\); expected \[\.\.\., 3\]"):
        uvd_to_xyz(np.ones((3, 2)), CAMERA)


def test_no_points_are_no_fault() -> None:
    assert uvd_to_xyz(torch.ones(0, 14, 3), CAMERA).shape == (0, 14, 3)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ((0, 1, 2, 3), "fx is 0; expected a positive"),
        ((1, -1, 2, 3), "fy is -1; expected a positive.*y_up=True"),
        ((1, 1, float("nan"), 3), "cx is nan; expected a finite"),
        ((1, 1, 2, 3, 0, 480), "width is 0"),
    ],
)
def test_a_camera_that_cannot_be(values: tuple[float, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Camera(*values)


def test_parse() -> None:
    assert Camera.parse("588.03, 587.07,320,240") == Camera(588.03, 587.07, 320.0, 240.0)
    assert Camera.parse(" NYU ") == CAMERAS["nyu"]
    for text in ("kinect", "1,2,3", "1,2,3,4,5", "a,b,c,d"):
        with pytest.raises(ValueError, match=r"is not known; give four numbers.*nyu, icvl, msra, hands17, sr305"):
            Camera.parse(text)
    with pytest.raises(ValueError, match="fy is -587"):
        Camera.parse("588,-587,320,240")


def test_all_forms_of_a_camera() -> None:
    expected = torch.tensor([500.0, 400.0, 320.0, 240.0])
    for camera in (CAMERA, (500, 400, 320, 240), [500.0, 400.0, 320.0, 240.0], expected, expected.double()):
        assert torch.equal(intrinsics(camera), expected)
    assert torch.equal(CAMERA.tensor(), expected)
    assert intrinsics(expected.expand(3, 4)).shape == (3, 4)


@pytest.mark.parametrize(
    ("camera", "error", "message"),
    [
        ("nyu", TypeError, "Camera.parse reads text"),
        (500.0, TypeError, "float; expected a Camera"),
        ((1.0, 2.0, 3.0), ValueError, "3 numbers; expected four"),
        ((-1.0, 2.0, 3.0, 4.0), ValueError, "fx is -1.0"),
        (torch.ones(4, dtype=torch.int64), TypeError, "torch.int64"),
        (torch.ones(3), ValueError, r"shape \(3,\); expected \[4\] or \[B, 4\]"),
        (torch.ones(2, 2, 4), ValueError, r"shape \(2, 2, 4\)"),
    ],
)
def test_what_stands_for_no_camera(camera: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        intrinsics(camera)
