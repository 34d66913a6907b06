# SPDX-License-Identifier: MIT
import json
import os
import re
import signal
import subprocess
import sys
import time
from functools import partial

import cv2
import numpy as np
import pytest
from helpers.faults import full_disk
from helpers.live_frames import CAMERA as LIVE_CAMERA
from helpers.live_frames import moving, still
from helpers.trust_record import record

from poseren_ext import Estimator
from poseren_ext.live import SourceLost, sources

pytestmark = pytest.mark.usefixtures("surface_detection")

CAMERA = ("--camera", "238,238,159.5,119.5")


@pytest.fixture
def run(poseren):
    return partial(poseren, "live")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "recording"
    folder.mkdir()
    for i, depth in enumerate(moving(6)):
        cv2.imwrite(str(folder / f"{i}.png"), depth)
    return folder


def test_record_and_play_again(run, folder, tmp_path):
    session = tmp_path / "session"
    code, out, err = run("--source", "folder", folder, *CAMERA, "--record", session, "--out", tmp_path / "poses.jsonl")
    assert (code, out) == (0, "")
    assert re.match(
        r"6 frames; 5 tracked; 1 detected; \d+\.\d frames/s, latency .*; 6 frames in ", err.splitlines()[-1]
    )
    lines = [json.loads(line) for line in (tmp_path / "poses.jsonl").read_text().splitlines()]
    assert [line["frame"] for line in lines] == list(range(6))
    code, out, err = run("--source", "folder", session, "--headless", "--out", "-", "--frames", 4)
    assert code == 0
    again = [json.loads(line) for line in out.splitlines()]
    assert len(again) == 4
    np.testing.assert_allclose(
        [line["hands"][0]["uvd"] for line in again], [line["hands"][0]["uvd"] for line in lines[:4]], atol=0.02
    )


def test_rotations_are_averaged(run, folder):
    options = ("--model", "demo", "--hand", "right", "--smoothing", "off", "--frames", 1, "--headless", "--out", "-")
    first = moving(1)[0]
    for tta in (1, 2):
        code, out, _ = run("--source", "folder", folder, *CAMERA, *options, "--tta", tta)
        assert code == 0
        expected = Estimator("demo", camera=LIVE_CAMERA, hand="right", tta=tta)(first).uvd
        np.testing.assert_allclose(json.loads(out)["hands"][0]["uvd"], expected, atol=0.02)


def test_a_terminal_shows_a_table(run, folder, monkeypatch):
    from rich.console import Console

    from poseren_ext.cli import _console

    monkeypatch.setattr(_console, "console", lambda stderr=False: Console(stderr=stderr, force_terminal=True, width=90))
    code, _, err = run("--source", "folder", folder, *CAMERA)
    assert code == 0
    assert "press Ctrl-C to stop" in err
    assert re.search(r"latency, ms \(50, 95, 99 %\)\s*│ [\d.]+ [\d.]+ [\d.]+", err)
    assert re.search(r"now\s*│ detected, (left|right) hand 1", err)


def test_stacks_in_metres(run, tmp_path):
    np.savez(tmp_path / "stack.npz", frames=moving(3).astype(np.float32) / 1000)
    code, _, err = run("--source", "npz", tmp_path / "stack.npz", *CAMERA, "--unit", 1000, "--hand", "right")
    assert code == 0
    assert "3 frames; 2 tracked; 1 detected" in err


def test_faulty_frames_are_counted(run, folder):
    cv2.imwrite(str(folder / "2.png"), np.zeros((240, 320), np.uint16))
    cv2.imwrite(str(folder / "3.png"), still()[:200])
    (folder / "4.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    cv2.imwrite(str(folder / "5.png"), (still() >> 2).astype(np.uint8))
    code, _, err = run("--source", "folder", folder, *CAMERA)
    assert code == 0
    assert "6 frames; 4 skipped; 1 detected; 1 tracked" in err
    assert "unreadable 2" in err
    assert "no depth 1" in err
    assert "resized 1" in err


def test_a_camera_that_is_unplugged(run, folder, tmp_path, monkeypatch):
    class Unplugged(sources.RecordingSource):
        def read(self):
            frame = super().read()
            if frame.number == 3:
                raise SourceLost("the depth camera gives no frame any more; is it plugged in?")
            return frame

    monkeypatch.setattr(sources, "RecordingSource", Unplugged)
    code, _, err = run("--source", "folder", folder, *CAMERA, "--record", tmp_path / "session")
    assert code == 1
    summary, error = err.splitlines()[-2:]  # a slow machine prints a line per second before
    assert summary.startswith("3 frames; ")
    assert error == "poseren: error: the depth camera gives no frame any more; is it plugged in?"
    assert len((tmp_path / "session" / "poses.jsonl").read_text().splitlines()) == 3
    assert len(list((tmp_path / "session").glob("*.png"))) == 3


def test_a_full_disk_keeps_whole_lines(run, folder, tmp_path):
    out = tmp_path / "poses.jsonl"
    with full_disk(3000):
        code, _, err = run("--source", "folder", folder, *CAMERA, "--out", out)
    assert code == 1
    assert "poses.jsonl: File too large; what was there is untouched" in err.splitlines()[-1]
    lines = out.read_bytes()
    assert 0 < len(lines) <= 3000
    assert [json.loads(line)["frame"] for line in lines.splitlines()] == list(range(lines.count(b"\n")))
    record("faults", "full disk during live --out", injected=1, kept="whole lines; the file is named")


def test_interrupted(folder, tmp_path):
    code = "from poseren_ext.cli import main; main()"
    arguments = ["live", "--source", "folder", folder, *CAMERA, "--loop", "--fps", "50", "--record", tmp_path / "s"]
    process = subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    for _ in range(600):
        if (tmp_path / "s" / "000002.png").exists():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in err
    assert re.search(
        r"\d+ frames in .*/s$", err.strip().splitlines()[-1 if "frames in" in err.splitlines()[-1] else -2]
    )
    lines = (tmp_path / "s" / "poses.jsonl").read_text().splitlines()
    frames = [json.loads(line)["file"] for line in lines]
    assert all(cv2.imread(str(tmp_path / "s" / name), cv2.IMREAD_UNCHANGED) is not None for name in frames)


def test_bad_input(run, folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyrealsense2", None)
    np.savez(tmp_path / "wall.npz", depth=np.full((2, 240, 320), 900, np.uint16))
    (tmp_path / "text").mkdir()
    (tmp_path / "text" / "x").touch()
    assert run("--frames", 0)[0] == 2
    assert run("--source", "webcam")[0] == 2
    assert run("--source", "folder", folder, *CAMERA, "--hand", "both")[0] == 2
    for arguments, message in (
        ((), "pip install 'poseren_ext[realsense]'"),
        (("--source", "kinect"), "cannot be opened"),
        (("--source", "folder"), "needs a path"),
        (("--source", "folder", tmp_path / "nowhere", *CAMERA), "no such file or folder"),
        (("--source", "folder", folder), "give --camera"),
        (("--source", "folder", folder, "--camera", "1,2"), "not known"),
        (("--source", "folder", folder, "--camera", "nyu"), "belong to about 640x480"),
        (("--source", "folder", folder, *CAMERA, "--record", tmp_path / "text"), "not empty"),
        (("--source", "folder", folder, *CAMERA, "--out", tmp_path / "no" / "x"), "there is no folder"),
        (("--source", "npz", tmp_path / "wall.npz", *CAMERA), "no hand in any of 2 frames: "),
        (("--source", "folder", folder, *CAMERA, "--unit", "0.001"), "no depth in this unit"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (1, ""), arguments
        assert message in err.splitlines()[-1], err
        assert err.count("poseren: error: ") == 1
        assert "Traceback" not in err
