# SPDX-License-Identifier: MIT
"""Each mistake that people make is named, and its remedy is the right one."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.drawn_hand import hand
from helpers.published_data import PUBLISHED, needs_published_data

from poseren_ext import HandDistanceError
from poseren_ext.geometry.camera import CAMERAS, Camera
from poseren_ext.inference.camera_check import resized
from poseren_ext.inference.depth_units import check_distances
from poseren_ext.inference.diagnosis import check_intrinsics, examine, summarize, window, worst
from poseren_ext.io.depth_files import find_frames
from poseren_ext.plotting.checkup import plot_checkups

pytestmark = pytest.mark.usefixtures("surface_detection")

CAMERA = Camera(240, 240, 159.5, 119.5)


def kinds(checkup):
    return {finding.check: finding.kind for finding in checkup.findings}


def text(checkup, check):
    return " | ".join(finding.text for finding in checkup.findings if finding.check == check)


def test_all_is_well():
    checkup = examine(hand(wall=1500), CAMERA)
    assert kinds(checkup) == dict.fromkeys(("frame", "camera", "unit", "hand", "cube"), "fine")
    assert checkup.kind == "fine"
    u, v, d = checkup.region.center
    assert abs(u - 160) < 3
    assert 100 < v < 122  # the fingers draw it up
    assert d == pytest.approx(500)
    left, _, right, _ = window(checkup.region, 150)
    assert right - left == pytest.approx(2 * 150 * 240 / 500)


@pytest.mark.parametrize(("stored", "unit"), [(1000.0, 1000), (1 / 8, 0.125), (10.0, 10), (1e-3, 0.001)])
def test_another_unit_is_recognised(stored, unit):
    depth = hand() / np.float32(stored)
    checkup = examine(depth, CAMERA)
    assert kinds(checkup)["unit"] == "fault"
    advice = text(checkup, "unit").split("look right with ")[1]
    assert f"--depth-unit {unit:g} (" in advice
    assert examine(depth, CAMERA, depth_unit=unit).kind == "fine"


PAIRS = [(true, given) for true in (1, 1000, 0.125, 0.1, 0.25, 10) for given in (1, 1000, 0.25, 10, 0.001)]


@pytest.mark.parametrize(("true", "given"), [(true, given) for true, given in PAIRS if not 0.3 < true / given < 3])
def test_the_likeliest_unit_is_named_first(true, given):
    mm, radius = (620, 42) if true == 0.125 else (520, 36)  # eighths and tenths differ in nothing but the size
    frames = [hand(mm=mm + 15 * i, radius=radius) / np.float32(true) for i in range(3)]
    findings = summarize([examine(frame, CAMERA, depth_unit=given) for frame in frames])
    (fault,) = [finding for finding in findings if finding.kind == "fault"]
    assert fault.text.split("look right with ")[1].startswith(f"--depth-unit {true:g} (")
    if not 0.2 < true / given < 5:  # otherwise it is at a possible distance
        with pytest.raises(HandDistanceError, match=rf"depth_unit={true:g} \("):
            check_distances(torch.tensor([[160.0, 110.0, 550 * given / true]]), given)


def test_all_frames_together_decide_on_the_unit():
    near = hand(mm=300, radius=30) * np.float32(10)  # alone it looks like eighths
    frames = [near] + [hand(mm=560 + 20 * i, radius=38) * np.float32(10) for i in range(4)]
    checkups = [examine(frame, CAMERA, name=str(i)) for i, frame in enumerate(frames)]
    assert min(checkups[0].units, key=checkups[0].units.get) != 0.1
    (fault,) = [finding for finding in summarize(checkups) if finding.kind == "fault"]
    assert fault.text.split("look right with ")[1].startswith("--depth-unit 0.1 (")


def test_later_checks_go_on_with_the_advice():
    checkup = examine(hand() / 1000, CAMERA)
    assert [finding.kind for finding in checkup.findings].count("fault") == 1
    assert checkup.region.unit == 1000
    assert checkup.region.center[2] == pytest.approx(500)


def test_intrinsics_of_another_resolution():
    double = Camera(480, 480, 319.5, 239.5)
    for wrong in (double, replace(double, width=640, height=480), CAMERAS["nyu"], CAMERAS["sr305"]):
        finding, camera = check_intrinsics(wrong, (240, 320))
        assert finding.kind == "fault"
        assert "640" in finding.text
        assert (camera.width, camera.height) == (320, 240)
        assert camera.fx == pytest.approx(wrong.fx / 2, rel=0.03)
    checkup = examine(hand(), double)
    assert kinds(checkup) == {"frame": "fine", "camera": "fault", "unit": "fine", "hand": "fine", "cube": "fine"}
    assert "240" in text(checkup, "camera").split("have ")[1]


def test_resizing_keeps_the_rays():
    camera = resized(CAMERA, 640, 480, (2, 2))
    assert (camera.fx, camera.cx) == (480, 319.5)


def test_other_faults_of_intrinsics():
    assert check_intrinsics(CAMERA, (240, 320))[0].kind == "fine"
    millimetres, _ = check_intrinsics(Camera(1.9, 1.9, 159.5, 119.5), (240, 320))
    assert millimetres.kind == "fault"
    assert "in pixels, not in millimetres" in millimetres.text
    assert check_intrinsics(Camera(240, 180, 159.5, 119.5), (240, 320))[0].kind == "note"
    cut, _ = check_intrinsics(Camera(240, 240, 60, 119.5), (240, 320))
    assert cut.kind == "note"
    assert "cut out" in cut.text
    outside, usable = check_intrinsics(Camera(240, 240, -60, 119.5), (240, 320))
    assert outside.kind == "fault"
    assert usable.cx == 159.5


def test_no_hand():
    wall = examine(np.full((240, 320), 900, np.uint16), CAMERA)
    assert kinds(wall)["hand"] == "fault"
    assert "is a hand in view" in text(wall, "hand")
    assert wall.region is None


@pytest.mark.parametrize(
    ("depth", "message"),
    [
        (np.zeros((240, 320), np.uint16), "no depth"),
        (np.full((240, 320), np.nan, np.float32), "no depth"),
        (np.zeros((240, 320, 3), np.uint16), "expected"),
        (np.full((240, 320), 90, np.uint8), "8-bit"),
        (np.full((240, 320), 90, np.uint16), "above 255"),
    ],
)
def test_frames_that_hold_no_depth(depth, message):
    checkup = examine(depth, CAMERA)
    assert kinds(checkup)["frame"] == "fault"
    assert message in text(checkup, "frame")


def test_a_hand_larger_than_its_cube_and_a_cube_too_large():
    small = examine(hand(), CAMERA, cube=50)
    assert kinds(small)["cube"] == "fault"
    assert "raise --cube" in text(small, "cube")
    assert kinds(examine(hand(), CAMERA, cube=400))["cube"] == "note"


def test_what_else_is_in_the_cube_and_a_cut_hand():
    near_wall = examine(hand(wall=630), CAMERA)
    assert kinds(near_wall)["hand"] == "note"
    assert "something else" in text(near_wall, "hand")
    edge = examine(hand(u=25), CAMERA)
    assert kinds(edge)["hand"] == "note"
    assert "edge" in text(edge, "hand")


def test_a_second_hand_is_reported_with_its_place():
    second = hand(mm=650.0, u=250)
    depth = np.where(hand(u=80) > 0, hand(u=80), second)
    checkup = examine(depth, CAMERA)
    assert checkup.kind == "fine"
    assert "the nearest of two surfaces of a hand's size" in text(checkup, "hand")
    assert "650 mm" in text(checkup, "hand")
    assert examine(hand(u=80), CAMERA).region.second is None


@pytest.mark.parametrize("turned", [False, True])
def test_a_forearm_that_crosses_the_frame_is_no_whole_hand(turned):
    depth = np.zeros((240, 320), np.float32)
    depth[100:135] = 500.0  # 73 mm wide, from the left border to the right one
    if turned:
        depth = np.zeros((240, 320), np.float32)
        depth[:, 140:175] = 500.0
    checkup = examine(depth, CAMERA)
    assert kinds(checkup)["hand"] == "note"
    assert "leaves the frame in 2 places" in text(checkup, "hand")


def test_an_arm_that_enters_once_is_no_problem():
    depth = hand()
    depth[140:, 145:175] = 500.0
    assert "leaves the frame" not in text(examine(depth, CAMERA), "hand")


def test_several_frames():
    well = [examine(hand(u=150 + 5 * i), CAMERA, name=str(i)) for i in range(3)]
    assert worst(summarize(well)) == "fine"
    assert len(summarize(well)) == 5
    metres = [*well, examine(hand() / 1000, CAMERA, name="m")]
    (fault,) = [finding for finding in summarize(metres) if finding.kind == "fault"]
    assert fault.text.startswith("1 of 4 frames, m for one: ")
    mixed = summarize([*well, examine(hand()[:200], Camera(240, 240, 159.5, 99.5))])
    assert any("several sizes: 320x200 and 320x240" in finding.text for finding in mixed)
    still = summarize([well[0]] * 3)
    assert any("stand still" in finding.text for finding in still)


def test_picture_of_every_kind():
    checkups = [
        examine(hand(wall=1500), CAMERA, name="well"),
        examine(hand() / 1000, CAMERA, name="metres"),
        examine(np.full((240, 320), 900, np.uint16), CAMERA, name="wall"),
        examine(np.zeros((240, 320), np.uint16), CAMERA, name="dark"),
    ]
    figure = plot_checkups(checkups)
    titles = [axes.get_title() for axes in figure.axes]
    assert "depth, mm, read with --depth-unit 1000" in titles
    assert titles.count("crop for the network") == 4
    with pytest.raises(ValueError, match="no frame"):
        plot_checkups([])


@needs_published_data
def test_recorded_frames_and_the_wrong_unit():
    for path in find_frames([PUBLISHED / "sr305" / "20210326-231615"])[:3]:
        depth = path.read()
        assert examine(depth, CAMERAS["sr305"], depth_unit=0.125).kind == "fine"
        advice = text(examine(depth, CAMERAS["sr305"]), "unit").split("look right with ")[1]
        assert advice.startswith("--depth-unit 0.125 (")
    nyu = find_frames([PUBLISHED / "nyu" / "depth_1_0000001.png"])[0].read()
    assert examine(nyu, CAMERAS["nyu"]).kind == "fine"
