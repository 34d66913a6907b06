# SPDX-License-Identifier: MIT
"""Commands of the documentation that need a depth camera: the same commands, with a RealSense camera of software."""

from __future__ import annotations

import io
import json
import runpy
import shlex
import sys
import urllib.request
import webbrowser
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch
from helpers.command_line import Result
from helpers.docs_blocks import ROOT, block_not_run, commands

import poseren_ext.viewer
from poseren_ext import CAMERAS
from poseren_ext.synthetic import SyntheticSequence

FRAMES = 6
SR305 = CAMERAS["sr305"]


@pytest.fixture(scope="module")
def depth() -> np.ndarray:
    """Frames of a hand that moves: uint16 [FRAMES, 480, 640], mm."""
    frames = SyntheticSequence(seed=7, split="test", number=7).frames(torch.arange(FRAMES))
    return frames.depth.round().numpy().astype(np.uint16)


@pytest.fixture
def realsense(depth: np.ndarray, monkeypatch: pytest.MonkeyPatch) -> None:
    """As much of pyrealsense2 as we call; the camera shows its frames, and then somebody presses Ctrl-C."""
    lens = SimpleNamespace(fx=SR305.fx, fy=SR305.fy, ppx=SR305.cx, ppy=SR305.cy, width=640, height=480)
    video = SimpleNamespace(get_intrinsics=lambda: lens)
    profile = SimpleNamespace(
        get_device=lambda: SimpleNamespace(first_depth_sensor=lambda: SimpleNamespace(get_depth_scale=lambda: 0.001)),
        get_stream=lambda _: SimpleNamespace(as_video_stream_profile=lambda: video),
    )

    def pipeline() -> SimpleNamespace:
        numbers = iter(range(FRAMES))

        def wait_for_frames(_: int) -> SimpleNamespace:
            number = next(numbers, None)
            if number is None:
                raise KeyboardInterrupt
            frame = SimpleNamespace(get_data=lambda: depth[number], get_frame_number=lambda: number)
            return SimpleNamespace(get_depth_frame=lambda: frame)

        return SimpleNamespace(start=lambda _: profile, wait_for_frames=wait_for_frames, stop=lambda: None)

    library = SimpleNamespace(
        stream=SimpleNamespace(depth="depth"),
        format=SimpleNamespace(z16="z16"),
        camera_info=SimpleNamespace(serial_number="serial"),
        context=lambda: SimpleNamespace(query_devices=lambda: [SimpleNamespace(get_info=lambda _: "1")]),
        config=lambda: SimpleNamespace(enable_device=lambda _: None, enable_stream=lambda *_: None),
        pipeline=pipeline,
    )
    monkeypatch.setitem(sys.modules, "pyrealsense2", library)


Poseren = Callable[..., Result]


@pytest.mark.usefixtures("realsense")
def test_live(poseren: Poseren) -> None:
    """docs/guides/live.md"""
    (command,) = commands(block_not_run("guides/live.md", "poseren live"))
    done = poseren(*shlex.split(command)[1:])
    assert done.code == 130
    assert f"{FRAMES} frames; " in done.err


@pytest.mark.usefixtures("realsense")
def test_lines_and_the_robot_that_follows_them(
    poseren: Poseren, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """docs/guides/teleoperation.md: the lines, and the same command with the robot behind it."""
    page = "guides/teleoperation.md"
    (alone,) = commands(block_not_run(page, "--frame palm\n"))
    live, robot = commands(block_not_run(page, "--frame palm |"))[0].split(" | ")
    assert live.split() == alone.split()
    done = poseren(*shlex.split(live)[1:])
    assert done.code == 130
    lines = [json.loads(line) for line in done.out.splitlines()]
    assert len(lines) == FRAMES
    hands = [line["hands"][0] for line in lines if line["hands"]]
    assert len(hands) > FRAMES // 2
    np.testing.assert_allclose(
        [hand["joints"][0] for hand in hands], 0, atol=1e-6
    )  # the palm frame begins at the wrist
    assert 0.1 < np.linalg.norm(hands[0]["joints"][12]) < 0.3  # MediaPipe's tip of the middle finger, in metres

    pytest.importorskip("dex_retargeting", reason="dex-retargeting has no release for this Python")
    pytest.importorskip("pinocchio", reason="dex-retargeting needs pinocchio")
    program, script, *arguments = shlex.split(robot)
    assert program == "python"
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "stdin", io.StringIO(done.out))
    monkeypatch.setattr(sys, "argv", [script, *arguments])
    runpy.run_path(script, run_name="__main__")
    assert len(capsys.readouterr().out.splitlines()) == FRAMES


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """The pages that a browser opened, which is none."""
    pages: list[bytes] = []

    def look(address: str) -> bool:
        pages.append(urllib.request.urlopen(address, timeout=10).read())
        return True

    monkeypatch.setattr(webbrowser, "open", look)
    return pages


@pytest.mark.usefixtures("realsense")
def test_the_viewer_of_a_camera(poseren: Poseren, opened: list[bytes]) -> None:
    """docs/guides/live.md and teleoperation.md"""
    _, two_hands = commands(block_not_run("guides/live.md", "poseren view"))
    (one_hand,) = commands(block_not_run("guides/teleoperation.md", "poseren view"))
    for command in (one_hand, two_hands):
        done = poseren(*shlex.split(command)[1:], "--port", 0)
        assert done.code == 130, done.err
    assert len(opened) == 2
    assert all(b"<html" in page for page in opened)


def test_the_viewer_of_a_recording(
    poseren: Poseren, opened: list[bytes], depth: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """docs/guides/live.md: a recording in units of 0.125 mm, as an SR305 gives it."""
    shown = []

    def show(viewer: object, files: list[object], *, rate: float) -> None:
        shown.extend(poseren_ext.viewer.app.estimate_file(viewer.estimator, file) for file in files)  # type: ignore[attr-defined]
        raise KeyboardInterrupt

    monkeypatch.setattr(poseren_ext.viewer, "view_recording", show)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "recording").mkdir()
    cv2.imwrite("recording/0.png", 8 * depth[0])
    command, _ = commands(block_not_run("guides/live.md", "poseren view"))
    done = poseren(*shlex.split(command)[1:], "--port", 0)
    assert (done.code, len(opened)) == (130, 1), done.err
    assert len(shown[0].hands) == 1
