# SPDX-License-Identifier: MIT
"""Centres and initial poses in another space or unit are refused by name, before any frame is computed."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from helpers.command_line import DISC_CAMERA, disc_frame
from helpers.predictions import numbers

from poseren_ext import Camera, uvd_to_xyz
from poseren_ext.inference.given_geometry import check_space

CAMERA = Camera(*map(float, DISC_CAMERA.split(",")))
CENTERS = np.array([[[60.0 + 5 * i, 60, 500]] for i in range(7)])


def rows(path, poses):
    path.write_text("".join(" ".join(f"{value:.6f}" for value in frame.ravel()) + "\n" for frame in poses))
    return path


WRONG = {
    "xyz": (lambda uvd: uvd_to_xyz(uvd, CAMERA), "this looks like x, y, z in mm"),
    "xyz with z at the camera": (lambda uvd: uvd_to_xyz(uvd, CAMERA) * [1, -1, -1], "whose z points at the camera"),
    "xyz in metres": (lambda uvd: uvd_to_xyz(uvd, CAMERA) / 1000, "this looks like metres"),
    "depth in metres": (lambda uvd: uvd * [1, 1, 1e-3], "this looks like metres"),
    "shares of the frame": (lambda uvd: uvd / [160, 120, 1], "shares of the frame: multiply u by 160 and v by 120"),
    "pixels of frames of four times the size": (lambda uvd: uvd * [4, 4, 1], "pixels of larger frames"),
}


@pytest.mark.parametrize("kind", WRONG)
@pytest.mark.parametrize("option", ["--centers", "--init"])
def test_refuses_another_space_or_unit(predict, disc_recording, tmp_path, kind, option):
    change, message = WRONG[kind]
    spread = np.random.default_rng(0).normal(0, [12, 12, 20], (7, 21, 3))
    given = CENTERS if option == "--centers" else CENTERS + spread
    assert predict(disc_recording, option, rows(tmp_path / "right.txt", given), out=tmp_path / "a.txt").code == 0
    result = predict(disc_recording, option, rows(tmp_path / "wrong.txt", change(given)))
    assert result.code == 1
    assert result.error.startswith(f"{option} {tmp_path / 'wrong.txt'} is not u, v (pixels), d (mm)")
    assert message in result.error
    assert not (tmp_path / "out.txt").exists()


def test_xyz_centres_that_are_inside_the_frames_are_recognised(predict, tmp_path):
    recording = tmp_path / "corner"
    recording.mkdir()
    for i in range(3):  # x and y are positive in this corner of the frame
        cv2.imwrite(str(recording / f"{i}.png"), disc_frame(95 + i, 75, 900))
    centers = np.array([[[95.0 + i, 75, 900]] for i in range(3)])
    given = rows(tmp_path / "wrong.txt", uvd_to_xyz(centers, CAMERA))
    error = predict(recording, "--centers", given).error
    assert error.startswith(f"--centers {given} is not u, v (pixels), d (mm): 3 of 3 frames")


@pytest.mark.parametrize("missing", ["nan", "0 0 0"])
def test_a_frame_without_a_centre_is_missing(predict, disc_recording, tmp_path, missing):
    lines = [f"{60 + 5 * i} 60 500" for i in range(7)]
    lines[2] = "nan nan nan" if missing == "nan" else missing
    (tmp_path / "c.txt").write_text("\n".join(lines) + "\n")
    result = predict(disc_recording, "--centers", tmp_path / "c.txt")
    assert result.code == 3
    assert "2.png: --centers" in result.err
    assert np.isnan(numbers(tmp_path / "out.txt")).any((1, 2)).tolist() == [i == 2 for i in range(7)]


def test_predictions_with_missing_frames_are_initial_poses(predict, disc_recording, tmp_path):
    assert predict(disc_recording, out=tmp_path / "a.txt").code == 0
    lines = (tmp_path / "a.txt").read_text().splitlines()
    lines[4] = " ".join(["nan"] * 63)
    (tmp_path / "b.txt").write_text("\n".join(lines) + "\n")
    result = predict(disc_recording, "--init", tmp_path / "b.txt")
    assert result.code == 3
    assert f"4.png: --init {tmp_path / 'b.txt'} has NaN for this frame" in result.err


def test_hands_that_leave_the_frame_and_missing_rows_are_no_reason_to_refuse():
    points = np.array([[[-20.0, 60, 500]], [[30, 60, 500]], [[80, 110, 500]], [[170, 60, 500]]]).repeat(2, 0)
    points[1], points[3] = 0, np.nan
    check_space("center", points, 160, 120)
    check_space("center", points[[1, 3]], 160, 120)
    check_space("center", np.array([[[150.0, 100, 500]]]), 160, 120)
