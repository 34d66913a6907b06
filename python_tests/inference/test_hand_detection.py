# SPDX-License-Identifier: MIT
"""Hand detection by surfaces: on drawn scenes, on rendered hands, then on real frames."""

from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from poseren_ext.geometry.camera import CAMERAS, Camera
from poseren_ext.inference import hand_detection, surface_detection
from poseren_ext.ops import normalize_pose
from poseren_ext.synthetic import SyntheticHands

find_hands = partial(hand_detection.find_hands, method="surface")
CAMERA = Camera(475.0, 475.0, 320.0, 240.0, 640, 480)


def scene(background: float = 0) -> np.ndarray:
    return np.full((480, 640), background, np.float32)


def disc(frame: np.ndarray, u: int, v: int, z: float, radius: float) -> None:
    """A disc that faces the camera; radius in mm."""
    cv2.circle(frame, (u, v), round(radius * CAMERA.fx / z), z, -1)


@pytest.mark.parametrize("background", [0, 1500, np.inf, np.nan])
def test_takes_the_nearest_surface_of_a_hands_size(background):
    frame = scene(background)
    disc(frame, 400, 300, 800, 45)
    disc(frame, 150, 150, 500, 40)
    hand = find_hands(frame, CAMERA, 1)[0]
    assert hand.center == pytest.approx((150, 150, 500), abs=4)
    assert hand.side is None
    assert 0 < hand.score <= 1


def test_passes_stray_pixels_and_narrow_clutter_in_front():
    frame = scene(1500)
    disc(frame, 320, 240, 700, 42)
    frame[100:103, 100:103] = 300
    frame[20:460, 600:606] = 400  # a cable
    hand = find_hands(frame, CAMERA, 1)[0]
    assert hand.center == pytest.approx((320, 240, 700), abs=4)


def test_passes_a_body_that_is_nearer_than_the_hand():
    frame = scene()
    disc(frame, 450, 300, 600, 180)
    disc(frame, 120, 200, 650, 42)
    hand = find_hands(frame, CAMERA, 1)[0]
    assert hand.center[:2] == pytest.approx((120, 200), abs=4)


def test_finds_a_hand_seen_from_its_edge_when_nothing_broader_is_there():
    frame = scene(1500)
    frame[165:315, 310:340] = 600  # 189 x 38 mm
    hand = find_hands(frame, CAMERA, 1)[0]
    assert hand.center[:2] == pytest.approx((325, 240), abs=4)


def test_finds_a_hand_whose_depth_varies():
    frame = scene(1500)
    disc(frame, 300, 220, 640, 45)
    slope = np.linspace(-50, 50, 640, dtype=np.float32)[None].repeat(480, 0)
    frame = np.where(frame == 640, frame + slope, frame)
    hand = find_hands(frame, CAMERA, 1)[0]
    assert hand.center == pytest.approx((300, 220, 640), abs=4)


@pytest.mark.parametrize("value", [0, np.nan, np.inf, -500])
def test_says_that_there_is_none(value):
    assert find_hands(scene(value), CAMERA) == []


def test_a_wall_is_no_hand():
    assert find_hands(scene(900), CAMERA) == []


def test_a_slanting_wall_behind_a_hand_is_no_hand():
    frame = np.linspace(500, 1900, 480, dtype=np.float32)[:, None].repeat(640, 1)
    disc(frame, 320, 400, 700, 45)
    (hand, *others) = find_hands(frame, CAMERA)
    assert hand.center == pytest.approx((320, 400, 700), abs=4)
    assert others == []


def test_works_on_small_and_integer_frames():
    frame = np.zeros((60, 80), np.uint16)
    frame[20:40, 30:50] = 400
    (hand,) = find_hands(frame, Camera(60.0, 60.0, 40.0, 30.0))
    assert hand.mask.shape == frame.shape
    assert hand.mask.sum() == 400
    assert hand.center == pytest.approx((39.5, 29.5, 400))


def arm(frame: np.ndarray, start: tuple[int, int], palm: tuple[int, int], depths: tuple[float, float]) -> None:
    """A forearm whose depth goes from one end's to the other's, and a palm with four fingers at its end."""
    start_xy, palm_xy = np.float64(start), np.float64(palm)
    direction = (palm_xy - start_xy) / np.linalg.norm(palm_xy - start_xy)
    for t in np.linspace(0, 1, 200):
        z = depths[0] + t * (depths[1] - depths[0])
        disc(frame, *np.round(start_xy + t * (palm_xy - start_xy)).astype(int), z, 28)
    disc(frame, *palm, depths[1], 42)
    for angle in (-0.5, -0.2, 0.1, 0.4):
        c, s = np.cos(angle), np.sin(angle)
        finger = np.array([c * direction[0] - s * direction[1], s * direction[0] + c * direction[1]])
        scale = CAMERA.fx / depths[1]
        tip = palm_xy + finger * 105 * scale
        cv2.line(frame, palm, tuple(np.round(tip).astype(int)), depths[1], round(15 * scale))


@pytest.mark.parametrize("depths", [(700, 550), (450, 450), (320, 600)], ids=["hand nearer", "level", "arm nearer"])
@pytest.mark.parametrize(("start", "palm"), [((0, 240), (350, 240)), ((320, 479), (300, 200)), ((639, 0), (350, 200))])
def test_takes_the_far_end_of_an_arm_that_enters_the_frame(depths, start, palm):
    frame = scene()
    arm(frame, start, palm, depths)
    (hand,) = find_hands(frame, CAMERA)
    center, z = np.array(hand.center[:2]), depths[1]
    assert np.linalg.norm(center - palm) * z / CAMERA.fx < 50, "not at the palm"
    assert abs(hand.center[2] - z) < 40


def test_takes_the_hand_of_an_arm_that_does_not_touch_the_border():
    frame = scene()
    arm(frame, (100, 300), (420, 260), (500, 500))
    (hand,) = find_hands(frame, CAMERA)
    assert np.hypot(hand.center[0] - 420, hand.center[1] - 260) * 500 / CAMERA.fx < 60


def test_finds_two_hands_the_nearest_first_and_at_most_as_many_as_asked():
    frame = scene(1500)
    disc(frame, 450, 250, 700, 45)
    disc(frame, 150, 250, 600, 45)
    both = find_hands(frame, CAMERA)
    assert [hand.center for hand in both] == [
        pytest.approx((150, 250, 600), abs=4),
        pytest.approx((450, 250, 700), abs=4),
    ]
    assert len(find_hands(frame, CAMERA, 1)) == 1
    assert not (both[0].surface & both[1].surface).any()


def test_a_frame_in_another_unit_and_type_gives_the_same_hand():
    frame = scene(1500)
    disc(frame, 320, 240, 700, 42)
    expected = find_hands(frame, CAMERA)[0].center
    for stored in (torch.from_numpy(frame).to(torch.uint16), torch.from_numpy(frame).int(), frame.astype(np.float64)):
        assert find_hands(stored, CAMERA)[0].center == pytest.approx(expected)
    assert find_hands(frame / 1000, CAMERA, depth_unit=1000)[0].center == pytest.approx(expected, rel=1e-6)


def test_refuses_what_is_no_frame_and_unknown_methods():
    for strange in (np.zeros(64), np.zeros((1, 2, 48, 64))):
        with pytest.raises(ValueError, match=r"expected \[H, W\]"):
            find_hands(strange, CAMERA)
    with pytest.raises(ValueError, match="a frame has shape"):
        find_hands([np.zeros((2, 48, 64))], CAMERA)
    with pytest.raises(ValueError, match="max_hands is 0"):
        find_hands(scene(), CAMERA, 0)
    with pytest.raises(ValueError, match="method is 'guess'"):
        find_hands(scene(), CAMERA, method="guess")
    for threshold in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="score_threshold is"):
            find_hands(scene(), CAMERA, score_threshold=threshold)


def test_several_frames_give_one_list_per_frame():
    one, two = scene(1500), scene(1500)
    disc(one, 450, 250, 700, 45)
    disc(two, 150, 250, 600, 45)
    expected = [find_hands(frame, CAMERA) for frame in (one, scene(), two)]
    assert [len(hands) for hands in expected] == [1, 0, 1]
    assert find_hands([one, scene(), two], CAMERA) == expected
    assert find_hands(np.stack([one, scene(), two]), CAMERA) == expected
    assert find_hands(torch.from_numpy(np.stack([one, scene(), two])), CAMERA) == expected


@pytest.fixture(scope="module")
def rendered():
    hands = SyntheticHands(11, "test")
    return hands.camera, hands.frames(torch.arange(24))


def test_the_cube_around_a_rendered_hand_holds_all_its_joints(rendered):
    camera, frames = rendered
    centers = torch.tensor([find_hands(depth, camera, 1)[0].center for depth in frames.depth])
    held = (normalize_pose(frames.uvd, centers, camera).abs() <= 1).all(-1).all(-1)
    assert held.float().mean() >= 0.9


@pytest.mark.parametrize("background", [0, 1500])
def test_one_pixel_of_shift_moves_the_centre_by_at_most_5_mm(background):
    frame = scene(background)
    arm(frame, (320, 479), (300, 200), (700, 550))
    u, v, d = find_hands(frame, CAMERA, 1)[0].center
    for rows, columns in ((0, 1), (1, 0), (1, 1), (2, 3)):
        moved = cv2.copyMakeBorder(frame, rows, 0, columns, 0, cv2.BORDER_REPLICATE)[:480, :640]
        shifted = find_hands(moved, CAMERA, 1)[0].center
        across = np.array([shifted[0] - u - columns, shifted[1] - v - rows]) * d / CAMERA.fx
        assert np.hypot(*across) < 5
        assert abs(shifted[2] - d) < 5


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
        (hand, *_) = find_hands(frame, camera)
        near, far = (float(np.percentile(frame[hand.surface & (frame > 0)], p)) for p in (2, 98))
        area = hand.mask.sum() * hand.center[2] ** 2 / (camera.fx * camera.fy) / 100
        assert 50 < area < 450, f"{path}: {area:.0f} cm2 is no hand"
        assert 350 < near < far < 1200, path
        palm = PALMS.get(f"{path.parent.name}/{path.stem}")
        assert palm is None or hand.mask[palm[1], palm[0]], f"{path}: the palm at {palm} is not in the mask"


@pytest.mark.parametrize("count", [1, 2, 3])
def test_the_far_end_of_a_surface_of_a_few_pixels_is_all_of_it(count: int) -> None:
    assert surface_detection._last(np.arange(count, dtype=np.float64)[None]).all()
