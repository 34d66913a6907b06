# SPDX-License-Identifier: MIT
"""`poseren predict`: interrupted runs are resumed, and only those."""

from __future__ import annotations

import fcntl
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.command_line import DISC_CAMERA, disc_frame
from helpers.predictions import numbers, put
from helpers.small_models import small_model

from poseren_ext.io import depth_files
from poseren_ext.io.pose_files import write_poses
from poseren_ext.models import save

CAMERA = DISC_CAMERA


def interrupt_after(monkeypatch: pytest.MonkeyPatch, count: int) -> None:
    read, calls = depth_files.read_depth, []

    def interrupted(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == count:
            raise KeyboardInterrupt
        return read(*arguments)

    monkeypatch.setattr(depth_files, "read_depth", interrupted)


@pytest.mark.parametrize("missing", ["nan", "skip"])
@pytest.mark.parametrize("ending", ["txt", "csv", "json"])
def test_an_interrupted_run_continues_to_the_same_file(predict, disc_recording, tmp_path, monkeypatch, missing, ending):
    for bad in (1, 4):
        put(disc_recording / f"{bad}.png", b"")
    whole, out = tmp_path / f"whole.{ending}", tmp_path / f"out.{ending}"
    options = ("--batch", 2, "--workers", 1, "--missing", missing)
    assert predict(disc_recording, *options, out=whole).code == 3
    interrupt_after(monkeypatch, 7)
    done = predict(disc_recording, *options, out=out)
    assert done.code == 130
    assert "interrupted: 4 of 7 frames" in done.err
    monkeypatch.undo()
    done = predict(disc_recording, *options, "--resume", out=out)
    assert done.code == 3
    assert "(4 of them from an earlier run)" in done.err
    assert out.read_bytes() == whole.read_bytes()
    done = predict(disc_recording, *options, "--resume", out=out)
    assert done.code == 3  # there is nothing left to do, and two frames have no result
    assert sorted(path.name for path in tmp_path.glob("out*")) == [out.name, f"{out.name}.json"]


def change(recording: Path, what: str, tmp_path: Path, model: Path) -> tuple[object, ...]:
    """Something about a run that changes between its two halves; the options of the second half."""
    if what in ("--centers", "--init"):
        joints = 1 if what == "--centers" else 21
        file = tmp_path / "given.txt"
        place = [60.0, 60.0, 500.0 + 0.5 * file.exists()]
        write_poses(file, np.tile(place, (7, joints, 1)))
        return (what, file)
    if what == "frames":
        (recording / "3.png").rename(recording / "30.png")
    elif what == "weights":
        save(small_model("msra21", spread=0.5, seed=2), model)
    else:
        option, value = what.split()
        return (option, value)
    return ()


CHANGES = {
    "--stages 1": "--stages 3, not 1",
    "--cube 140": "--cube 150.0, not 140.0",
    "--depth-unit 0.9": "--depth-unit 1.0, not 0.9",
    "--hand left": "--hand right, not left",
    "--precision int8": "--precision float32, not int8",
    "--tta 2": "--tta 1, not 2",
    "--order mediapipe": "--order msra21, not mediapipe",
    "--space xyz": "--space uvd, not xyz",
    "weights": "other weights than",
    "frames": "other frames, or frames in another order",
    "--centers": "other centres than",
    "--init": "other initial poses than",
}


@pytest.mark.parametrize("what", CHANGES)
def test_a_run_with_other_settings_is_not_continued(poseren, disc_recording, tmp_path, what):
    model, out = save_model(tmp_path), tmp_path / "out.txt"
    options = ("--camera", CAMERA, "--model", model, "--out", out, "--batch", 2)
    first = change(disc_recording, what, tmp_path, model) if what in ("--centers", "--init") else ()
    assert poseren("predict", disc_recording, *options, *first).code == 0
    before = out.read_bytes()
    second = change(disc_recording, what, tmp_path, model)
    done = poseren("predict", disc_recording, *options, *second, "--resume")
    assert done.code == 1
    assert CHANGES[what] in done.error
    assert "--overwrite" in done.error
    assert out.read_bytes() == before
    assert poseren("predict", disc_recording, *options, *second, "--overwrite").code == 0


def save_model(folder: Path) -> Path:
    save(small_model("msra21", spread=0.5), folder / "model.safetensors")
    return folder / "model.safetensors"


def test_a_recording_that_grew_is_continued(predict, disc_recording, tmp_path):
    assert predict(disc_recording).code == 0
    cv2.imwrite(str(disc_recording / "7.png"), disc_frame(60, 60))
    done = predict(disc_recording, "--resume")
    assert (done.code, "8 frames in" in done.err, "(7 of them" in done.err) == (0, True, True)
    assert predict(disc_recording, out=tmp_path / "out.json").code == 0
    cv2.imwrite(str(disc_recording / "8.png"), disc_frame(60, 60))
    done = predict(disc_recording, "--resume", out=tmp_path / "out.json")
    assert "complete with 8 frames; there are 9 now" in done.error


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_continues(predict, small_model_file, tmp_path, how):
    many = tmp_path / "many.npz"
    np.savez(many, depth=np.stack([disc_frame(40 + i % 80, 60) for i in range(150)]))
    assert predict(many, out=tmp_path / "whole.txt").code == 0
    out = tmp_path / "out.txt"
    options = ["--camera", CAMERA, "--model", small_model_file, "--out", out, "--batch", 1, "--workers", 1]
    process = subprocess.Popen(
        [sys.executable, "-c", "from poseren_ext.cli import main; main()", "predict", *map(str, (many, *options))],
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (out.exists() and out.stat().st_size):
        time.sleep(0.01)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[how], err
    assert "Traceback" not in err
    assert 0 < out.read_bytes().count(b"\n") < 150
    done = predict(many, "--resume")
    assert done.code == 0
    assert re.search(r"\(\d+ of them from an earlier run\)", done.err)
    np.testing.assert_allclose(numbers(out), numbers(tmp_path / "whole.txt"), atol=2e-3)


def test_a_second_run_at_the_same_time_is_refused(predict, disc_recording, tmp_path):
    with (tmp_path / "out.txt").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert f"another run writes to {tmp_path / 'out.txt'}" in predict(disc_recording, "--resume").error
    assert predict(disc_recording, "--resume").code == 0
