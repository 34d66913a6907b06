# SPDX-License-Identifier: MIT
"""The search for the hand: on drawn scenes, then on real frames."""

from pathlib import Path

import cv2
import numpy as np
import pytest

from poseren_ext.geometry.camera import CAMERAS, Camera
from poseren_ext.inference.hand_detection import find_hand

CAMERA = Camera(475.0, 475.0, 320.0, 240.0, 640, 480)


def scene(background: float = 0) -> np.ndarray:
    return np.full((480, 640), background, np.float32)


def disc(frame: np.ndarray, u: int, v: int, z: float, radius: float) -> None:
    """A disc that faces the camera; radius in mm."""
    cv2.circle(frame, (u, v), round(radius * CAMERA.fx / z), z, -1)


def centroid(mask: np.ndarray) -> tuple[float, float]:
    rows, columns = np.nonzero(mask)
    return float(columns.mean()), float(rows.mean())


@pytest.mark.parametrize("background", [0, 1500, np.inf, np.nan])
def test_takes_the_nearest_surface_of_a_hands_size(background):
    frame = scene(background)
    disc(frame, 400, 300, 800, 45)
    disc(frame, 150, 150, 500, 40)
    mask, near, far = find_hand(frame, CAMERA)
    assert centroid(mask) == pytest.approx((150, 150), abs=4)
    assert near == 500
    assert far > 500


def test_passes_stray_pixels_and_narrow_clutter_in_front():
    frame = scene(1500)
    disc(frame, 320, 240, 700, 42)
    frame[100:103, 100:103] = 300
    frame[20:460, 600:606] = 400  # a cable
    mask, near, _ = find_hand(frame, CAMERA)
    assert centroid(mask) == pytest.approx((320, 240), abs=4)
    assert near == 700


def test_passes_a_body_that_is_nearer_than_the_hand():
    frame = scene()
    disc(frame, 450, 300, 600, 180)
    disc(frame, 120, 200, 650, 42)
    mask, _, _ = find_hand(frame, CAMERA)
    assert centroid(mask) == pytest.approx((120, 200), abs=4)


def test_finds_a_hand_seen_from_its_edge_when_nothing_broader_is_there():
    frame = scene(1500)
    frame[150:330, 310:340] = 600  # 227 x 38 mm
    mask, _, _ = find_hand(frame, CAMERA)
    assert centroid(mask) == pytest.approx((325, 240), abs=4)


def test_finds_a_hand_whose_depth_varies():
    frame = scene(1500)
    disc(frame, 300, 220, 640, 45)
    slope = np.linspace(-50, 50, 640, dtype=np.float32)[None].repeat(480, 0)
    frame = np.where(frame == 640, frame + slope, frame)
    mask, near, far = find_hand(frame, CAMERA)
    assert centroid(mask) == pytest.approx((300, 220), abs=4)
    assert near < frame[220, 300] < far


@pytest.mark.parametrize("value", [0, np.nan, np.inf, -500])
def test_says_that_there_is_none(value):
    assert find_hand(scene(value), CAMERA) is None


def test_a_wall_is_no_hand():
    assert find_hand(scene(900), CAMERA) is None


def test_works_on_small_and_integer_frames():
    frame = np.zeros((60, 80), np.uint16)
    frame[20:40, 30:50] = 400
    mask, near, _ = find_hand(frame, Camera(60.0, 60.0, 40.0, 30.0))
    assert mask.shape == frame.shape
    assert mask.sum() == 400
    assert near == 400


# A pixel of the palm in frames of the SR305 recordings, read off the pictures.
PALMS = {
    "20210326-230536/50": (307, 280),
    "20210326-230536/90": (311, 255),
    "20210326-230536/110": (270, 250),
    "20210326-230536/170": (286, 228),
    "20210326-231615/20": (339, 289),  # a chair is nearer
    "20210326-231615/140": (328, 330),
    "20210326-231615/200": (338, 291),
}


def test_real_frames(test_data: Path):
    camera = CAMERAS["sr305"]
    paths = sorted(test_data.glob("sr305/*/*.png"))
    assert len(paths) == 19
    for path in paths:
        frame = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) * np.float32(0.125)
        mask, near, _ = find_hand(frame, camera)
        z = float(np.median(frame[mask & (frame > 0)]))
        area = mask.sum() * z**2 / (camera.fx * camera.fy) / 100
        assert 100 < area < 400, f"{path}: {area:.0f} cm2 is no hand with its forearm"
        assert 350 < near < 700, path
        palm = PALMS.get(f"{path.parent.name}/{path.stem}")
        assert palm is None or mask[palm[1], palm[0]], f"{path}: the palm at {palm} is not in the mask"
