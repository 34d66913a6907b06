# SPDX-License-Identifier: MIT
"""`poseren predict`: one result per frame for all kinds of frames; interrupted runs are resumed."""

from __future__ import annotations

import csv
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from helpers.command_line import DISC_CAMERA, Result, disc_frame
from helpers.small_models import small_model

from poseren_ext.geometry.camera import Camera, uvd_to_xyz
from poseren_ext.geometry.joint_orders import in_order, joint_names
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.inference import batch as batch_module
from poseren_ext.io import depth_files
from poseren_ext.io.depth_files import FrameFile
from poseren_ext.io.pose_files import read_poses, write_poses
from poseren_ext.models import save

CAMERA = DISC_CAMERA


@pytest.fixture
def run(poseren: Callable[..., Result], small_model_file: Path, tmp_path: Path) -> Callable[..., Result]:
    def call(*arguments: object, out: object = tmp_path / "out.txt", camera: str = CAMERA) -> Result:
        return poseren("predict", *arguments, "--camera", camera, "--model", small_model_file, "--out", out)

    return call


def numbers(path: Path) -> Any:
    return np.array([line.split() for line in path.read_text().splitlines()], float).reshape(-1, 21, 3)


# --- one result per frame -----------------------------------------------------------------------------------------


def test_frames_of_a_lens_with_distortion_are_undistorted(run, disc_recording, tmp_path):
    """The same joints as from frames that were undistorted before, and only such a run is resumed."""
    from poseren_ext.io.camera_files import read_camera

    numbers_of_camera = {"width": 160, "height": 120, "k": [120, 0, 80, 0, 120, 60, 0, 0, 1]}
    bent, straight = tmp_path / "bent.json", tmp_path / "straight.json"
    straight.write_text(json.dumps(numbers_of_camera))
    bent.write_text(json.dumps(numbers_of_camera | {"d": [4.0, 0.0, 0.05, 0.0, 0.0], "distortion_model": "plumb_bob"}))
    (tmp_path / "flat").mkdir()
    lens, moved = read_camera(bent), 0
    for path in disc_recording.glob("*.png"):
        frame = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        moved += not np.array_equal(lens.undistort(frame), frame)
        cv2.imwrite(str(tmp_path / "flat" / path.name), lens.undistort(frame))
    assert moved > 3
    assert run(disc_recording, camera=bent, out=tmp_path / "a.txt").code == 0
    assert run(tmp_path / "flat", camera=straight, out=tmp_path / "b.txt").code == 0
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "b.txt").read_text()
    again = run(disc_recording, "--resume", camera=straight, out=tmp_path / "a.txt")
    assert (again.code, "distortion" in again.err) == (1, True), again.err


def test_one_line_for_every_frame_and_a_record(run, disc_recording, tmp_path):
    done = run(disc_recording, "--batch", 3)
    assert done.code == 0
    assert "7 frames in" in done.err
    poses = read_poses(tmp_path / "out.txt", joints=21, frames=7)
    assert np.all(np.diff(poses[:, 0, 0]) > 3)  # the hand moves to the right, and the joints with it
    record = json.loads((tmp_path / "out.txt.json").read_text())
    assert [name.rsplit("/", 1)[1] for name in record["frames"]] == [f"{i}.png" for i in range(7)]
    assert (record["complete"], record["missing"], record["layout"]["skeleton"]) == (True, [], "msra21")
    assert len(record["digests"]["weights"]) == 64


def test_stacks_of_frames_and_given_centres(run, disc_recording, tmp_path):
    np.save(tmp_path / "stack.npy", np.stack([disc_frame(60 + 5 * i, 60) for i in range(7)]))
    write_poses(tmp_path / "centers.txt", np.array([[[60 + 5 * i, 60, 500]] for i in range(7)], float))
    assert run(disc_recording, out=tmp_path / "a.txt").code == 0
    assert run(tmp_path / "stack.npy", "--centers", tmp_path / "centers.txt", out=tmp_path / "b.txt").code == 0
    a, b = read_poses(tmp_path / "a.txt"), read_poses(tmp_path / "b.txt")
    np.testing.assert_allclose(a, b, atol=1.0)  # the disc's centre of mass is its centre, within a pixel


def test_initial_poses_of_another_method(run, disc_recording, tmp_path):
    assert run(disc_recording, "--stages", 0, out=tmp_path / "init.txt").code == 0
    assert run(disc_recording, "--stages", 0, "--init", tmp_path / "init.txt", out=tmp_path / "same.txt").code == 0
    init, same = read_poses(tmp_path / "init.txt"), read_poses(tmp_path / "same.txt")
    np.testing.assert_allclose(same, init, atol=2e-3)


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 2, 16])
def test_workers_and_batches_do_not_change_the_order(run, disc_recording, tmp_path, workers, size):
    assert run(disc_recording, "--workers", 1, "--batch", 16, out=tmp_path / "one.txt").code == 0
    assert run(disc_recording, "--workers", workers, "--batch", size).code == 0
    np.testing.assert_allclose(numbers(tmp_path / "out.txt"), numbers(tmp_path / "one.txt"), atol=2e-3)


# --- frames without a result ----------------------------------------------------------------------------------------

JPEG = cv2.imencode(".jpg", np.zeros((120, 160, 3), np.uint8))[1].tobytes()
BAD_FRAMES = {
    "8-bit": ((disc_frame(60, 60) >> 8).astype(np.uint8), "8-bit grey PNG"),
    "no depth": (np.zeros((120, 160), np.uint16), "no depth"),
    "another size": (disc_frame(60, 60)[:100], "160x100 but earlier frames are 160x120; run each size separately"),
    "no hand": (np.full((120, 160), 3000, np.uint16), "no hand"),
    "colour": (np.zeros((120, 160, 3), np.uint16), "16-bit RGB"),
    "a JPEG": (JPEG, "a JPEG"),
    "empty": (b"", "the file is empty"),
    "truncated": (cv2.imencode(".png", disc_frame(60, 60))[1].tobytes()[:200], "PNG"),
}


def put(path: Path, content: Any) -> None:
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        cv2.imwrite(str(path), content)


@pytest.mark.parametrize("kind", BAD_FRAMES)
def test_a_bad_frame_does_not_stop_the_run(run, disc_recording, tmp_path, kind):
    content, message = BAD_FRAMES[kind]
    put(disc_recording / "4.png", content)
    done = run(disc_recording, "--batch", 3)
    assert done.code == 3
    assert "1 of 7 frames have no result (nan)" in done.err
    assert re.search(rf"4\.png: .*{re.escape(message.split(': ')[-1])}", done.err), done.err
    assert np.isnan(numbers(tmp_path / "out.txt")).all((1, 2)).tolist() == [i == 4 for i in range(7)]
    (entry,) = json.loads((tmp_path / "out.txt.json").read_text())["missing"]
    assert entry["index"] == 4


@pytest.mark.parametrize("kind", ["no hand", "a JPEG"])
def test_bad_frames_are_left_out_when_asked(run, disc_recording, tmp_path, kind):
    put(disc_recording / "0.png", BAD_FRAMES[kind][0])
    put(disc_recording / "4.png", BAD_FRAMES[kind][0])
    done = run(disc_recording, "--missing", "skip")
    assert done.code == 3
    assert "2 of 7 frames have no result (left out)" in done.err
    assert numbers(tmp_path / "out.txt").shape == (5, 21, 3)


@pytest.mark.parametrize("kind", BAD_FRAMES)
def test_a_bad_frame_stops_the_run_when_asked(run, disc_recording, tmp_path, kind):
    content, message = BAD_FRAMES[kind]
    put(disc_recording / "4.png", content)
    done = run(disc_recording, "--batch", 3, "--missing", "stop")
    assert done.code == 1
    assert message in done.error
    assert "the 4 frames before it are in" in done.error
    assert len(read_poses(tmp_path / "out.txt")) == 4
    put(disc_recording / "4.png", disc_frame(80, 60))
    assert run(disc_recording, "--missing", "stop", "--resume").code == 0
    assert len(read_poses(tmp_path / "out.txt")) == 7


def test_a_run_without_any_result_fails_and_leaves_no_file(run, disc_recording, tmp_path):
    for file in disc_recording.iterdir():
        put(file, np.zeros((120, 160), np.uint16))
    done = run(disc_recording)
    assert done.code == 1
    assert "none of 7 frames has a result" in done.error
    assert "no depth" in done.error
    assert not list(tmp_path.glob("out*"))


def test_many_bad_frames_are_counted_and_the_first_are_named(run, tmp_path):
    stack = np.stack([disc_frame(60, 60) if i % 3 == 0 else np.zeros((120, 160), np.uint16) for i in range(30)])
    np.save(tmp_path / "stack.npy", stack)
    done = run(tmp_path / "stack.npy")
    assert done.code == 3
    assert "20 of 30 frames have no result" in done.err
    assert "and 10 more, listed in" in done.err


@pytest.mark.parametrize("extra", ["._0.png", ".hidden.png", ".DS_Store", "Thumbs.db", "notes.txt"])
def test_hidden_and_other_files_are_not_frames(run, disc_recording, extra):
    (disc_recording / extra).write_bytes(b"\x00\x05\x16\x07")
    done = run(disc_recording)
    assert (done.code, "7 frames in" in done.err) == (0, True)


@pytest.mark.parametrize("damaged", ["a.npy", "a.npz"])
def test_a_damaged_stack_among_good_frames_is_one_missing_frame(run, disc_recording, damaged):
    (disc_recording / damaged).write_bytes(b"\x93NUMPY damaged")
    done = run(disc_recording)
    assert done.code == 3
    assert "1 of 8 frames have no result" in done.err


NAMES = [
    "a[bold]b[-].png",
    "[red].png",
    "%s %d.png",
    "-dash.png",
    "sp ace.png",
    "ü-ä.png",
    "new\nline.png",
    "tab\t.png",
]
NAMES += ["quote\"'.png", "²³.png", "9" * 200 + ".png", "c,om,ma.png", "esc\x1b[31m.png", os.fsdecode(b"latin\xe9.png")]


@pytest.mark.parametrize("name", NAMES)
def test_any_file_name(run, tmp_path, name):
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / name).write_bytes(cv2.imencode(".png", disc_frame(60, 60))[1].tobytes())
    (folder / f"z{name[:100]}").with_suffix(".png").write_bytes(b"")
    done = run(folder)
    assert done.code == 3
    assert "\x1b" not in done.err
    assert done.err.count("\n") == 3
    word = re.search(r"[a-z9]{3}", name)
    assert word
    assert word[0] in done.err
    assert json.loads((tmp_path / "out.txt.json").read_text())["frames"][0].endswith(name)
    for file_format in ("csv", "json", "npz", "parquet"):
        assert run(folder, out=tmp_path / f"out.{file_format}").code == 3
    assert len(list(csv.reader((tmp_path / "out.csv").open(encoding="utf-8", errors="surrogateescape")))) == 3
    assert len(json.loads((tmp_path / "out.json").read_text())["frames"]) == 2


# --- interrupted and resumed ----------------------------------------------------------------------------------------


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
def test_an_interrupted_run_continues_to_the_same_file(run, disc_recording, tmp_path, monkeypatch, missing, ending):
    for bad in (1, 4):
        put(disc_recording / f"{bad}.png", b"")
    whole, out = tmp_path / f"whole.{ending}", tmp_path / f"out.{ending}"
    options = ("--batch", 2, "--workers", 1, "--missing", missing)
    assert run(disc_recording, *options, out=whole).code == 3
    interrupt_after(monkeypatch, 7)
    done = run(disc_recording, *options, out=out)
    assert done.code == 130
    assert "interrupted: 4 of 7 frames" in done.err
    monkeypatch.undo()
    done = run(disc_recording, *options, "--resume", out=out)
    assert done.code == 3
    assert "(4 of them from an earlier run)" in done.err
    assert out.read_bytes() == whole.read_bytes()
    done = run(disc_recording, *options, "--resume", out=out)
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


def test_a_recording_that_grew_is_continued(run, disc_recording, tmp_path):
    assert run(disc_recording).code == 0
    cv2.imwrite(str(disc_recording / "7.png"), disc_frame(60, 60))
    done = run(disc_recording, "--resume")
    assert (done.code, "8 frames in" in done.err, "(7 of them" in done.err) == (0, True, True)
    assert run(disc_recording, out=tmp_path / "out.json").code == 0
    cv2.imwrite(str(disc_recording / "8.png"), disc_frame(60, 60))
    done = run(disc_recording, "--resume", out=tmp_path / "out.json")
    assert "complete with 8 frames; there are 9 now" in done.error


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_killed_run_continues(run, small_model_file, tmp_path, how):
    many = tmp_path / "many.npz"
    np.savez(many, depth=np.stack([disc_frame(40 + i % 80, 60) for i in range(150)]))
    assert run(many, out=tmp_path / "whole.txt").code == 0
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
    done = run(many, "--resume")
    assert done.code == 0
    assert re.search(r"\(\d+ of them from an earlier run\)", done.err)
    np.testing.assert_allclose(numbers(out), numbers(tmp_path / "whole.txt"), atol=2e-3)


def test_a_second_run_at_the_same_time_is_refused(run, disc_recording, tmp_path):
    with (tmp_path / "out.txt").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        assert f"another run writes to {tmp_path / 'out.txt'}" in run(disc_recording, "--resume").error
    assert run(disc_recording, "--resume").code == 0


# --- whose files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["txt", "csv", "json", "npz", "parquet"])
def test_a_file_that_exists_is_refused(run, disc_recording, tmp_path, ending):
    out = tmp_path / f"mine.{ending}"
    out.write_text("mine\n")
    assert "exists; --resume continues it, --overwrite replaces it" in run(disc_recording, out=out).error
    assert run(disc_recording, "--resume", out=out).code == (1 if ending in ("txt", "csv") else 0) or out.exists()
    done = run(disc_recording, "--overwrite", out=out)
    assert done.code == 0
    assert out.read_bytes() != b"mine\n"


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"my": "annotations"}', b"\xff\xfe", b'{"record": "other"}'])
@pytest.mark.parametrize("option", [(), ("--overwrite",), ("--resume",)])
def test_a_record_that_it_did_not_make_is_never_written_over(run, disc_recording, tmp_path, content, option):
    (tmp_path / "out.txt.json").write_bytes(content)
    assert "is not a record of predictions, so it is left alone" in run(disc_recording, *option).error
    assert (tmp_path / "out.txt.json").read_bytes() == content
    assert not (tmp_path / "out.txt").exists()


def test_two_outputs_have_two_records(run, disc_recording, tmp_path):
    for cube in (130, 140):
        assert run(disc_recording, "--cube", cube, out=tmp_path / f"j_0.{cube}").code == 0
    cubes = [json.loads((tmp_path / f"j_0.{cube}.json").read_text())["settings"]["cube"] for cube in (130, 140)]
    assert cubes == [130.0, 140.0]
    assert run(disc_recording, "--cube", 130, "--resume", out=tmp_path / "j_0.130").code == 0


def test_a_file_without_its_record_is_not_continued(run, disc_recording, tmp_path):
    assert run(disc_recording).code == 0
    (tmp_path / "out.txt.json").unlink()
    assert "cannot be resumed: there is no record out.txt.json" in run(disc_recording, "--resume").error
    (tmp_path / "out.txt").write_text("text\n")
    assert "expected 63 values" in run(disc_recording, "--resume").error


# --- formats --------------------------------------------------------------------------------------------------------


@pytest.fixture
def predicted(run, disc_recording, tmp_path) -> Any:
    """uvd [7, 21, 3] of the recording, frame 4 without a result."""
    put(disc_recording / "4.png", b"")
    assert run(disc_recording, out=tmp_path / "uvd.txt").code == 3
    return numbers(tmp_path / "uvd.txt")


LAYOUT = ("--space", "xyz", "--output-unit", "m", "--order", "mediapipe")


@pytest.fixture
def expected(predicted) -> Any:
    """The same in metres, in MediaPipe's order."""
    xyz = uvd_to_xyz(predicted, Camera(120, 120, 80, 60), check=False) / 1000
    return in_order(xyz, SKELETONS["msra21"], "mediapipe")


def read_format(path: Path) -> tuple[list[str], Any]:
    """Names of the frames and joints [N, 21, 3] of a file, read by other means than the package's."""
    if path.suffix == ".csv":
        with path.open(newline="") as file:
            rows = list(csv.DictReader(file))
        columns = [f"{joint.replace(' ', '_')}_{axis}" for joint in joint_names("mediapipe") for axis in "xyz"]
        values = [[float(row[column] or "nan") for column in columns] for row in rows]
        return [row["frame"] for row in rows], np.array(values).reshape(-1, 21, 3)
    if path.suffix == ".json":
        entries = json.loads(path.read_text())["frames"]
        nothing = [[float("nan")] * 3] * 21
        return [entry["frame"] for entry in entries], np.array([entry["joints"] or nothing for entry in entries])
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return archive["frames"].tolist(), archive["joints"]
    import pandas

    table = pandas.read_parquet(path)
    return table["frame"].tolist(), table.to_numpy()[:, 3:].astype(float).reshape(-1, 21, 3)


@pytest.mark.parametrize("ending", ["csv", "json", "npz", "parquet"])
def test_every_format_holds_the_same_joints(run, disc_recording, tmp_path, expected, ending):
    out = tmp_path / f"out.{ending}"
    assert run(disc_recording, *LAYOUT, out=out).code == 3
    frames, joints = read_format(out)
    assert [Path(frame).name for frame in frames] == [f"{i}.png" for i in range(7)]
    np.testing.assert_allclose(joints, expected, atol=5e-6)
    assert not list(tmp_path.glob("*.partial"))


def test_json_says_what_it_holds(run, disc_recording, tmp_path, predicted):
    assert run(disc_recording, *LAYOUT, out=tmp_path / "out.json").code == 3
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["joint_names"] == list(joint_names("mediapipe"))
    assert (content["units"], content["coordinate_frame"], content["order"]) == (["m"] * 3, "camera", "mediapipe")
    assert content["frames"][0]["hand"] == "right"
    assert content["missing"][0]["frame"].endswith("4.png")
    assert content["frames"][4] == {"frame": content["missing"][0]["frame"], "joints": None}


def test_joints_that_the_model_does_not_have_are_named(run, disc_recording, tmp_path):
    done = run(disc_recording, "--order", "openxr26", "--space", "xyz")
    assert done.code == 0
    assert "joints that the model does not have are nan: palm, index metacarpal, " in done.err
    row = np.array((tmp_path / "out.txt").read_text().splitlines()[0].split(), float).reshape(26, 3)
    assert np.isnan(row).all(1).nonzero()[0].tolist() == [0, 6, 11, 16, 21]


def test_world_and_palm_frames(run, disc_recording, tmp_path, predicted):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], (100, 200, 300)
    np.savetxt(tmp_path / "world.txt", matrix)
    xyz = uvd_to_xyz(predicted, Camera(120, 120, 80, 60), check=False)
    options = ("--space", "xyz", "--extrinsics", tmp_path / "world.txt")
    assert run(disc_recording, *options).code == 3
    world = np.stack([xyz[..., 2] + 100, 200 - xyz[..., 0], 300 - xyz[..., 1]], -1)
    np.testing.assert_allclose(numbers(tmp_path / "out.txt"), world, atol=5e-3)
    assert run(disc_recording, "--space", "xyz", "--frame", "palm", "--overwrite").code == 3
    palm = numbers(tmp_path / "out.txt")[0]
    np.testing.assert_allclose(palm[0], 0, atol=1e-3)  # the wrist
    np.testing.assert_allclose(palm[5, [0, 2]], 0, atol=2e-3)  # the middle finger's root lies on y
    np.testing.assert_allclose(palm[13, 2], 0, atol=2e-3)  # the little finger's in the plane of x and y


@pytest.mark.parametrize("file_format", ["txt", "csv", "json", "npz", "parquet"])
def test_standard_output_holds_the_file(
    disc_recording, small_model_file, tmp_path, capfdbinary, file_format, monkeypatch
):
    from poseren_ext.cli import main

    monkeypatch.chdir(tmp_path)
    options = ["--camera", CAMERA, "--model", str(small_model_file), "--format", file_format]
    for out in ("-", f"out.{file_format}"):
        with pytest.raises(SystemExit) as caught:
            main(["predict", str(disc_recording), *options, "--out", out])
        assert caught.value.code == 0
        written = capfdbinary.readouterr().out
        if out == "-":
            stdout = written
            assert sorted(path.name for path in tmp_path.iterdir()) == ["recording"]
    if file_format == "npz":
        (tmp_path / "stdout.npz").write_bytes(stdout)
        a, b = (read_format(tmp_path / name)[1] for name in ("stdout.npz", "out.npz"))
        np.testing.assert_allclose(a, b, atol=1e-3)
    elif file_format != "parquet":
        ours = (tmp_path / f"out.{file_format}").read_bytes()
        assert [line for line in stdout.splitlines() if b"camera" not in line][:4] == [
            line for line in ours.splitlines() if b"camera" not in line
        ][:4]


@pytest.mark.parametrize("ending", ["xlsx", "npy", "mat", "pkl", "h5", "yaml", "jsonl", "png", "txt.gz", "mp4", "onnx"])
def test_endings_of_formats_that_are_not_written_are_refused(run, disc_recording, tmp_path, ending):
    done = run(disc_recording, out=tmp_path / f"out.{ending}")
    assert "files are not written; expected one of .txt, .csv, .json, .npz, .parquet" in done.error
    assert not list(tmp_path.glob("out*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--format", "json"), "the ending stands for txt, but the format is json"),
        (("--output-unit", "m", "--space", "uvd"), "--output-unit m needs --space xyz"),
        (("--frame", "palm", "--space", "uvd"), "--frame palm needs --space xyz"),
        (("--frame", "world", "--space", "xyz"), "--frame world needs --extrinsics"),
        (("--extrinsics", "world.txt", "--frame", "palm", "--space", "xyz"), "leave one of them out"),
        (("--extrinsics", "nowhere.txt", "--space", "xyz"), "nowhere.txt: no such file"),
        (("--extrinsics", "flat.txt", "--space", "xyz"), "not a rotation"),
        (("--extrinsics", "short.txt", "--space", "xyz"), "expected a finite matrix [4, 4]"),
        (("--extrinsics", "text.txt", "--space", "xyz"), "text.txt: "),
    ],
)
def test_layouts_that_make_no_sense(run, disc_recording, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    np.savetxt("flat.txt", np.zeros((4, 4)))
    np.savetxt("short.txt", np.zeros(5))
    Path("text.txt").write_text("text")
    assert message in run(disc_recording, *options).error
    assert not (tmp_path / "out.txt").exists()


# --- wrong usage ----------------------------------------------------------------------------------------------------


def test_an_archive_is_unpacked_once(run, tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "stack.npz", depth=np.stack([disc_frame(60 + i, 60) for i in range(8)]))
    member, calls = depth_files._member, []
    monkeypatch.setattr(depth_files, "_member", lambda path: calls.append(path) or member(path))
    assert run(tmp_path / "stack.npz", "--batch", 2).code == 0
    assert len(calls) == 1


@pytest.mark.parametrize(
    "options", [("--stages", -1), ("--hand", "both"), ("--cube", 0), ("--device", "gpu"), ("--missing", "drop")]
)
def test_values_that_an_option_does_not_have(run, disc_recording, options):
    done = run(disc_recording, *options)
    assert done.code == 2
    assert str(options[0]) in done.error


@pytest.mark.parametrize(
    ("cube", "meant"),
    [("0.15", "0.15 m are 150 mm"), ("15", "15 cm are 150 mm"), ("5000", "30 to 500 mm"), ("nan", "nan")],
)
def test_cubes_that_hold_no_hand_are_refused_with_the_likely_unit(run, disc_recording, cube, meant):
    done = run(disc_recording, "--cube", cube)
    assert done.code == 2
    assert meant in done.error


def test_bad_input_is_one_line(run, disc_recording, tmp_path):
    for arguments, camera, message in (
        ((tmp_path / "nowhere",), CAMERA, "no such file or folder"),
        ((disc_recording, "--pattern", "x*"), CAMERA, "no file x*"),
        ((disc_recording,), "0,1,2", "not known"),
        ((disc_recording,), "500,500,320,240", "principal point"),
        ((disc_recording, "--depth-unit", "0.001"), CAMERA, "--depth-unit"),
        ((disc_recording, "--centers", disc_recording / "0.png"), CAMERA, "not a text file"),
        ((disc_recording, "--device", "cuda:99"), CAMERA, "--device cuda:99 is not available"),
    ):
        done = run(*arguments, camera=camera)
        assert done.code == 1, arguments
        assert message in done.error


def test_camera_and_unit_come_from_the_recording(poseren, disc_recording, small_model_file, tmp_path):
    def predict(name: str, *more: object) -> Result:
        return poseren("predict", disc_recording, "--model", small_model_file, "--out", tmp_path / name, *more)

    assert predict("a.txt").code == 2
    (disc_recording / "camera.txt").write_text("120 120 80 60\n")
    assert predict("a.txt").code == 0
    (disc_recording / "camera.txt").unlink()
    camera = {"fx": 120.0, "fy": 120.0, "cx": 80.0, "cy": 60.0, "width": 160, "height": 120}
    (disc_recording / "recording.json").write_text(json.dumps({"camera": camera, "depth_unit": 1.0}))
    assert predict("b.txt").code == 0
    assert (tmp_path / "a.txt").read_bytes() == (tmp_path / "b.txt").read_bytes()
    (disc_recording / "recording.json").write_text(json.dumps({"camera": camera, "depth_unit": 1.25}))
    assert predict("c.txt").code == 0
    assert json.loads((tmp_path / "c.txt.json").read_text())["settings"]["depth_unit"] == 1.25
    assert predict("d.txt", "--depth-unit", 1).code == 0
    assert (tmp_path / "d.txt").read_bytes() == (tmp_path / "a.txt").read_bytes()
    (disc_recording / "recording.json").write_text("{}")
    assert "not the settings of a recording" in predict("e.txt").error


def test_frames_are_decoded_by_several_threads_at_a_time(run, disc_recording, monkeypatch):
    busy, most = [0], [0]
    read = FrameFile.read

    def slow(self: FrameFile) -> Any:
        busy[0] += 1
        most[0] = max(most[0], busy[0])
        time.sleep(0.05)
        busy[0] -= 1
        return read(self)

    monkeypatch.setattr(FrameFile, "read", slow)
    monkeypatch.setattr(batch_module, "usable_cores", lambda: 3)
    assert run(disc_recording, "--batch", 1).code == 0
    assert most[0] == 3
