# SPDX-License-Identifier: MIT
from __future__ import annotations

import cv2
import numpy as np
import pytest

from poseren_ext.geometry.camera import Camera
from poseren_ext.geometry.lens import Lens, make_lens

CAMERA = Camera(60.0, 62.0, 39.5, 29.5, 80, 60)
MATRIX = np.array([[60.0, 0, 39.5], [0, 62.0, 29.5], [0, 0, 1]])
BARREL = (-0.25, 0.05, 0.002, -0.001, 0.01)


def distorted(points: np.ndarray, lens: Lens) -> np.ndarray:
    """Where OpenCV's projection puts the points of the pinhole image [N, 2] in the stored image."""
    rays = np.column_stack([(points - (39.5, 29.5)) / (60.0, 62.0), np.ones(len(points))])
    zero, coefficients = np.zeros(3), np.array(lens.distortion)
    project = cv2.fisheye.projectPoints if lens.fisheye else cv2.projectPoints
    if lens.fisheye:
        return project(rays[:, None], zero, zero, MATRIX, coefficients)[0].reshape(-1, 2)
    return project(rays, zero, zero, MATRIX, coefficients)[0].reshape(-1, 2)


@pytest.mark.parametrize(
    "lens",
    [Lens(CAMERA, BARREL), Lens(CAMERA, (0.3, 0.1, 0.0, 0.0, 0.0, 0.1, 0.05, 0.0)), Lens(CAMERA, (0.1, 0, 0, 0), True)],
    ids=["barrel", "rational", "fisheye"],
)
def test_each_pixel_is_the_nearest_stored_one_on_its_ray(lens: Lens) -> None:
    stored = np.arange(1, 4801, dtype=np.uint16).reshape(60, 80)  # every value names its pixel
    result = lens.undistort(stored)
    assert result.dtype == np.uint16
    v, u = (axis.reshape(-1) for axis in np.mgrid[:60, :80])
    expected = distorted(np.column_stack([u, v]).astype(float), lens)
    known = result.reshape(-1) > 0
    found = np.column_stack([(result.reshape(-1) - 1) % 80, (result.reshape(-1) - 1) // 80])
    assert known.mean() > 0.6
    assert np.abs(found - expected)[known].max() <= 0.5 + 1e-3
    outside = ((expected < -0.5) | (expected >= (79.5, 59.5))).any(1)
    sure = ((expected > -0.49) & (expected < (79.49, 59.49))).all(1)
    assert not (known & outside & ~sure & (np.abs(expected - 0).min(1) > 1)).any()
    assert known[sure].all()


def test_values_are_never_mixed_and_holes_stay() -> None:
    stored = np.where(np.indices((60, 80)).sum(0) % 2, 500, 0).astype(np.float32)
    assert set(np.unique(Lens(CAMERA, BARREL).undistort(stored))) == {0.0, 500.0}


def test_a_lens_without_distortion_changes_nothing() -> None:
    frame = np.ones((60, 80), np.uint16)
    for lens in (Lens(CAMERA), Lens(CAMERA, (0.0,) * 5), make_lens(CAMERA, [0.0] * 5, "inverse_brown_conrady")):
        assert not lens.distorts
        assert lens.undistort(frame) is frame
    assert Lens(CAMERA, (0.0,) * 4, True).distorts


def test_frames_of_another_size_are_refused() -> None:
    with pytest.raises(ValueError, match="the frames are 40x30, the camera's are 80x60"):
        Lens(CAMERA, BARREL).undistort(np.ones((30, 40), np.uint16))


@pytest.mark.parametrize(
    ("coefficients", "model", "message"),
    [
        ([0.1] * 3, "", "3 distortion coefficients; expected 0, 4, 5, 8, 12, 14"),
        ([0.1] * 5, "equidistant", "expected 0, 4 of OpenCV's fisheye"),
        ([float("nan")] * 5, "plumb_bob", "finite"),
        ([0.1] * 5, "ftheta", "distortion model 'ftheta'"),
    ],
)
def test_unknown_lens_models(coefficients: list[float], model: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make_lens(CAMERA, coefficients, model)
