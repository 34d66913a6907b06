# SPDX-License-Identifier: MIT
import fcntl
import json
import re
import signal
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
from helpers.tiny_models import save_tiny_model

from poseren_ext.cli import main
from poseren_ext.io.pose_files import read_poses, write_poses

CAMERA = "120,120,80,60"


def frame(x, y, mm=500):
    """160x120 pixels, a disc of a hand's size (43 mm) at mm around pixel x, y."""
    rows, columns = np.mgrid[:120, :160]
    depth = np.zeros((120, 160), np.uint16)
    depth[(rows - y) ** 2 + (columns - x) ** 2 < (43 * 120 / mm) ** 2] = mm
    return depth


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return save_tiny_model(tmp_path_factory.mktemp("model") / "tiny.safetensors")


@pytest.fixture
def recording(tmp_path):
    folder = tmp_path / "recording"
    folder.mkdir()
    for i in range(7):
        cv2.imwrite(str(folder / f"{i}.png"), frame(60 + 5 * i, 60))
    return folder


@pytest.fixture
def run(model, tmp_path, capsys):
    def call(*arguments, camera=CAMERA, out=tmp_path / "out.txt"):
        with pytest.raises(SystemExit) as caught:
            main(["predict", *map(str, arguments), "--camera", camera, "--model", str(model), "--out", str(out)])
        captured = capsys.readouterr()
        return caught.value.code, captured.err

    return call


def test_a_line_for_every_frame(run, recording, tmp_path):
    code, err = run(recording, "--batch", 3)
    assert code == 0
    assert "7 frames in" in err
    poses = read_poses(tmp_path / "out.txt", joints=21, frames=7)
    assert np.all(np.diff(poses[:, 0, 0]) > 3)  # the hand moves to the right, and the joints with it
    record = json.loads((tmp_path / "out.json").read_text())
    assert [name.rsplit("/", 1)[1] for name in record["frames"]] == [f"{i}.png" for i in range(7)]
    assert record["skeleton"] == "msra21"


def test_stacks_and_centers(run, recording, tmp_path):
    np.save(tmp_path / "stack.npy", np.stack([frame(60 + 5 * i, 60) for i in range(7)]))
    write_poses(tmp_path / "centers.txt", np.array([[[60 + 5 * i, 60, 500]] for i in range(7)], float))
    assert run(recording, out=tmp_path / "a.txt")[0] == 0
    assert run(tmp_path / "stack.npy", "--centers", tmp_path / "centers.txt", out=tmp_path / "b.txt")[0] == 0
    a, b = read_poses(tmp_path / "a.txt"), read_poses(tmp_path / "b.txt")
    np.testing.assert_allclose(a, b, atol=1.0)  # the disc's centre of mass is its centre, within a pixel


def test_initial_poses_of_another_method(run, recording, tmp_path):
    assert run(recording, "--stages", 0, out=tmp_path / "init.txt")[0] == 0
    assert run(recording, "--stages", 0, "--init", tmp_path / "init.txt", out=tmp_path / "same.txt")[0] == 0
    init, same = read_poses(tmp_path / "init.txt"), read_poses(tmp_path / "same.txt")
    np.testing.assert_allclose(same, init, atol=2e-3)


def test_an_interrupted_run_continues(run, recording, tmp_path, monkeypatch):
    assert run(recording, out=tmp_path / "whole.txt")[0] == 0
    from poseren_ext.io import depth_files

    read, calls = depth_files.read_depth, []

    def interrupted(*arguments):
        calls.append(arguments)
        if len(calls) == 5:
            raise KeyboardInterrupt
        return read(*arguments)

    monkeypatch.setattr(depth_files, "read_depth", interrupted)
    code, err = run(recording, "--batch", 2)
    assert code == 130
    assert "interrupted: 4 of 7 frames" in err
    assert len(read_poses(tmp_path / "out.txt")) == 4
    monkeypatch.undo()
    code, err = run(recording, "--batch", 2, "--resume")
    assert code == 0
    assert "4 of 7 frames are there; continuing" in err
    assert (tmp_path / "out.txt").read_text() == (tmp_path / "whole.txt").read_text()
    assert run(recording, "--resume")[0] == 0
    assert run(recording)[0] == 1


def test_another_run_is_not_continued(run, recording, tmp_path):
    assert run(recording)[0] == 0
    before = (tmp_path / "out.txt").read_text()
    code, err = run(recording, "--stages", 0, "--resume")
    assert code == 1
    assert "with another stages" in err
    (tmp_path / "out.json").unlink()
    assert "does not say of which run" in run(recording, "--resume")[1]
    assert (tmp_path / "out.txt").read_text() == before
    assert run(recording, "--stages", 0, "--overwrite")[0] == 0
    assert (tmp_path / "out.txt").read_text() != before


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        ((frame(60, 60) >> 8).astype(np.uint8), "4.png: a 8-bit grey PNG"),
        (np.zeros((120, 160), np.uint16), "4.png: .*no depth"),
        (frame(60, 60)[:100], "4.png: 160x100 pixels, the frames before have 160x120"),
        (np.full((120, 160), 3000, np.uint16), "4.png: no hand"),
        (np.zeros((120, 160, 3), np.uint16), "4.png: a 16-bit RGB"),
        (b"\xff\xd8\xff\xe0 JFIF", "4.png: a JPEG"),
        (b"", "4.png: "),
    ],
)
def test_a_frame_at_fault_is_named_and_those_before_it_are_kept(run, recording, tmp_path, bad, message):
    if isinstance(bad, bytes):
        (recording / "4.png").write_bytes(bad)
    else:
        cv2.imwrite(str(recording / "4.png"), bad)
    code, err = run(recording, "--batch", 3)
    assert code == 1
    assert err.count("\n") == 1
    assert re.search(message, err), err
    assert "the 4 frames before it are in" in err
    assert len(read_poses(tmp_path / "out.txt")) == 4


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_killed_run_continues(run, recording, model, tmp_path, how):
    many = tmp_path / "many.npz"
    np.savez(many, depth=np.stack([frame(40 + i % 80, 60) for i in range(150)]))
    assert run(many, out=tmp_path / "whole.txt")[0] == 0
    out = tmp_path / "out.txt"
    options = ["--camera", CAMERA, "--model", model, "--out", out, "--batch", 1]
    process = subprocess.Popen(
        [sys.executable, "-c", "from poseren_ext.cli import main; main()", "predict", *map(str, (many, *options))],
        stderr=subprocess.PIPE,
        text=True,
    )
    while process.poll() is None and not (out.exists() and out.stat().st_size):
        time.sleep(0.01)
    process.send_signal(how)
    _, err = process.communicate(timeout=60)
    assert process.returncode == (130 if how == signal.SIGINT else -how), err
    assert "Traceback" not in err
    done = out.read_bytes().count(b"\n")
    assert 0 < done < 150
    code, err = run(many, "--batch", 16, "--resume")
    assert code == 0
    assert re.search(r"\d+ of 150 frames are there; continuing", err)
    np.testing.assert_allclose(read_poses(out, frames=150), read_poses(tmp_path / "whole.txt"), atol=2e-3)


def test_a_recording_that_grew_is_continued(run, recording, tmp_path):
    assert run(recording)[0] == 0
    cv2.imwrite(str(recording / "7.png"), frame(60, 60))
    code, err = run(recording, "--resume")
    assert code == 0
    assert "7 of 8 frames are there; continuing" in err
    (recording / "3.png").unlink()
    code, err = run(recording, "--resume")
    assert code == 1
    assert "with another frames" in err


def test_a_second_run_at_once_is_refused(run, recording, tmp_path):
    with (tmp_path / "out.txt").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, err = run(recording, "--resume")
        assert (code, err) == (
            1,
            f"poseren: error: another run writes to {tmp_path / 'out.txt'}; wait for it, or name another output\n",
        )
    assert run(recording, "--resume")[0] == 0


def test_an_archive_is_unpacked_once(run, tmp_path, monkeypatch):
    from poseren_ext.io import depth_files

    np.savez_compressed(tmp_path / "stack.npz", depth=np.stack([frame(60 + i, 60) for i in range(8)]))
    member, calls = depth_files._member, []
    monkeypatch.setattr(depth_files, "_member", lambda path: calls.append(path) or member(path))
    assert run(tmp_path / "stack.npz", "--batch", 2)[0] == 0
    assert len(calls) == 1


def test_wrong_usage(run, recording, tmp_path):
    assert run(recording, "--stages", -1)[0] == 2
    assert run(recording, "--hand", "both")[0] == 2
    assert run(recording, out=tmp_path / "out.json")[0] == 2
    for arguments, camera, message in (
        ((tmp_path / "nowhere",), CAMERA, "no such file or folder"),
        ((recording, "--pattern", "x*"), CAMERA, "no file x*"),
        ((recording,), "0,1,2", "not known"),
        ((recording,), "500,500,320,240", "principal point"),
        ((recording, "--depth-unit", "0.001"), CAMERA, "--depth-unit"),
        ((recording, "--centers", recording / "0.png"), CAMERA, "not a text file"),
    ):
        code, err = run(*arguments, "--overwrite", camera=camera)
        assert code == 1, arguments
        assert message in err
        assert err.count("\n") == 1
