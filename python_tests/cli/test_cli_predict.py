# SPDX-License-Identifier: MIT
"""`poseren predict`: one result per frame for all kinds of frames."""

from __future__ import annotations

import csv
import json
import os
import re
import time
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from helpers.command_line import DISC_CAMERA, Result, disc_frame
from helpers.predictions import numbers, put

from poseren_ext.inference import batch as batch_module
from poseren_ext.io import depth_files
from poseren_ext.io.depth_files import FrameFile
from poseren_ext.io.pose_files import read_poses, write_poses
from poseren_ext.models.packed import PackedPoseREN

pytestmark = pytest.mark.usefixtures("surface_detection")

CAMERA = DISC_CAMERA


# --- one result per frame -----------------------------------------------------------------------------------------


def test_frames_of_a_lens_with_distortion_are_undistorted(predict, disc_recording, tmp_path):
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
    assert predict(disc_recording, camera=bent, out=tmp_path / "a.txt").code == 0
    assert predict(tmp_path / "flat", camera=straight, out=tmp_path / "b.txt").code == 0
    assert (tmp_path / "a.txt").read_text() == (tmp_path / "b.txt").read_text()
    again = predict(disc_recording, "--resume", camera=straight, out=tmp_path / "a.txt")
    assert (again.code, "distortion" in again.err) == (1, True), again.err


def test_one_line_for_every_frame_and_a_record(predict, disc_recording, tmp_path):
    done = predict(disc_recording, "--batch", 3)
    assert done.code == 0
    assert "7 frames in" in done.err
    poses = read_poses(tmp_path / "out.txt", joints=21, frames=7)
    assert np.all(np.diff(poses[:, 0, 0]) > 3)  # the hand moves to the right, and the joints with it
    record = json.loads((tmp_path / "out.txt.json").read_text())
    assert [name.rsplit("/", 1)[1] for name in record["frames"]] == [f"{i}.png" for i in range(7)]
    assert (record["complete"], record["missing"], record["layout"]["skeleton"]) == (True, [], "msra21")
    assert len(record["digests"]["weights"]) == 64


def test_stacks_of_frames_and_given_centres(predict, disc_recording, tmp_path):
    np.save(tmp_path / "stack.npy", np.stack([disc_frame(60 + 5 * i, 60) for i in range(7)]))
    write_poses(tmp_path / "centers.txt", np.array([[[60 + 5 * i, 60, 500]] for i in range(7)], float))
    assert predict(disc_recording, out=tmp_path / "a.txt").code == 0
    assert predict(tmp_path / "stack.npy", "--centers", tmp_path / "centers.txt", out=tmp_path / "b.txt").code == 0
    a, b = read_poses(tmp_path / "a.txt"), read_poses(tmp_path / "b.txt")
    np.testing.assert_allclose(a, b, atol=1.0)  # the disc's centre of mass is its centre, within a pixel


def test_initial_poses_of_another_method(predict, disc_recording, tmp_path):
    assert predict(disc_recording, "--stages", 0, out=tmp_path / "init.txt").code == 0
    assert predict(disc_recording, "--stages", 0, "--init", tmp_path / "init.txt", out=tmp_path / "same.txt").code == 0
    init, same = read_poses(tmp_path / "init.txt"), read_poses(tmp_path / "same.txt")
    np.testing.assert_allclose(same, init, atol=2e-3)


@pytest.mark.parametrize("workers", [1, 2, 5])
@pytest.mark.parametrize("size", [1, 2, 16])
def test_workers_and_batches_do_not_change_the_order(predict, disc_recording, tmp_path, workers, size):
    assert predict(disc_recording, "--workers", 1, "--batch", 16, out=tmp_path / "one.txt").code == 0
    assert predict(disc_recording, "--workers", workers, "--batch", size).code == 0
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


@pytest.mark.parametrize("kind", BAD_FRAMES)
def test_a_bad_frame_does_not_stop_the_run(predict, disc_recording, tmp_path, kind):
    content, message = BAD_FRAMES[kind]
    put(disc_recording / "4.png", content)
    done = predict(disc_recording, "--batch", 3)
    assert done.code == 3
    assert "1 of 7 frames have no result (nan)" in done.err
    assert re.search(rf"4\.png: .*{re.escape(message.split(': ')[-1])}", done.err), done.err
    assert np.isnan(numbers(tmp_path / "out.txt")).all((1, 2)).tolist() == [i == 4 for i in range(7)]
    (entry,) = json.loads((tmp_path / "out.txt.json").read_text())["missing"]
    assert entry["index"] == 4


@pytest.mark.parametrize("kind", ["no hand", "a JPEG"])
def test_bad_frames_are_left_out_when_asked(predict, disc_recording, tmp_path, kind):
    put(disc_recording / "0.png", BAD_FRAMES[kind][0])
    put(disc_recording / "4.png", BAD_FRAMES[kind][0])
    done = predict(disc_recording, "--missing", "skip")
    assert done.code == 3
    assert "2 of 7 frames have no result (left out)" in done.err
    assert numbers(tmp_path / "out.txt").shape == (5, 21, 3)


@pytest.mark.parametrize("kind", BAD_FRAMES)
def test_a_bad_frame_stops_the_run_when_asked(predict, disc_recording, tmp_path, kind):
    content, message = BAD_FRAMES[kind]
    put(disc_recording / "4.png", content)
    done = predict(disc_recording, "--batch", 3, "--missing", "stop")
    assert done.code == 1
    assert message in done.error
    assert "the 4 frames before it are in" in done.error
    assert len(read_poses(tmp_path / "out.txt")) == 4
    put(disc_recording / "4.png", disc_frame(80, 60))
    assert predict(disc_recording, "--missing", "stop", "--resume").code == 0
    assert len(read_poses(tmp_path / "out.txt")) == 7


def test_a_run_without_any_result_fails_and_leaves_no_file(predict, disc_recording, tmp_path):
    for file in disc_recording.iterdir():
        put(file, np.zeros((120, 160), np.uint16))
    done = predict(disc_recording)
    assert done.code == 1
    assert "none of 7 frames has a result" in done.error
    assert "no depth" in done.error
    assert not list(tmp_path.glob("out*"))


def test_many_bad_frames_are_counted_and_the_first_are_named(predict, tmp_path):
    stack = np.stack([disc_frame(60, 60) if i % 3 == 0 else np.zeros((120, 160), np.uint16) for i in range(30)])
    np.save(tmp_path / "stack.npy", stack)
    done = predict(tmp_path / "stack.npy")
    assert done.code == 3
    assert "20 of 30 frames have no result" in done.err
    assert "and 10 more, listed in" in done.err


@pytest.mark.parametrize("extra", ["._0.png", ".hidden.png", ".DS_Store", "Thumbs.db", "notes.txt"])
def test_hidden_and_other_files_are_not_frames(predict, disc_recording, extra):
    (disc_recording / extra).write_bytes(b"\x00\x05\x16\x07")
    done = predict(disc_recording)
    assert (done.code, "7 frames in" in done.err) == (0, True)


@pytest.mark.parametrize("damaged", ["a.npy", "a.npz"])
def test_a_damaged_stack_among_good_frames_is_one_missing_frame(predict, disc_recording, damaged):
    (disc_recording / damaged).write_bytes(b"\x93NUMPY damaged")
    done = predict(disc_recording)
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
def test_any_file_name(predict, tmp_path, name):
    folder = tmp_path / "frames"
    folder.mkdir()
    (folder / name).write_bytes(cv2.imencode(".png", disc_frame(60, 60))[1].tobytes())
    (folder / f"z{name[:100]}").with_suffix(".png").write_bytes(b"")
    done = predict(folder)
    assert done.code == 3
    assert "\x1b" not in done.err
    assert done.err.count("\n") == 3
    word = re.search(r"[a-z9]{3}", name)
    assert word
    assert word[0] in done.err
    assert json.loads((tmp_path / "out.txt.json").read_text())["frames"][0].endswith(name)
    for file_format in ("csv", "json", "npz", "parquet"):
        assert predict(folder, out=tmp_path / f"out.{file_format}").code == 3
    assert len(list(csv.reader((tmp_path / "out.csv").open(encoding="utf-8", errors="surrogateescape")))) == 3
    assert len(json.loads((tmp_path / "out.json").read_text())["frames"]) == 2


# --- whose files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["txt", "csv", "json", "npz", "parquet"])
def test_a_file_that_exists_is_refused(predict, disc_recording, tmp_path, ending):
    out = tmp_path / f"mine.{ending}"
    out.write_text("mine\n")
    assert "exists; --resume continues it, --overwrite replaces it" in predict(disc_recording, out=out).error
    assert predict(disc_recording, "--resume", out=out).code == (1 if ending in ("txt", "csv") else 0) or out.exists()
    done = predict(disc_recording, "--overwrite", out=out)
    assert done.code == 0
    assert out.read_bytes() != b"mine\n"


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"my": "annotations"}', b"\xff\xfe", b'{"record": "other"}'])
@pytest.mark.parametrize("option", [(), ("--overwrite",), ("--resume",)])
def test_a_record_that_it_did_not_make_is_never_written_over(predict, disc_recording, tmp_path, content, option):
    (tmp_path / "out.txt.json").write_bytes(content)
    assert "is not a record of predictions, so it is left alone" in predict(disc_recording, *option).error
    assert (tmp_path / "out.txt.json").read_bytes() == content
    assert not (tmp_path / "out.txt").exists()


def test_two_outputs_have_two_records(predict, disc_recording, tmp_path):
    for cube in (130, 140):
        assert predict(disc_recording, "--cube", cube, out=tmp_path / f"j_0.{cube}").code == 0
    cubes = [json.loads((tmp_path / f"j_0.{cube}.json").read_text())["settings"]["cube"] for cube in (130, 140)]
    assert cubes == [130.0, 140.0]
    assert predict(disc_recording, "--cube", 130, "--resume", out=tmp_path / "j_0.130").code == 0


def test_a_file_without_its_record_is_not_continued(predict, disc_recording, tmp_path):
    assert predict(disc_recording).code == 0
    (tmp_path / "out.txt.json").unlink()
    assert "cannot be resumed: there is no record out.txt.json" in predict(disc_recording, "--resume").error
    (tmp_path / "out.txt").write_text("text\n")
    assert "expected 63 values" in predict(disc_recording, "--resume").error


# --- wrong usage ----------------------------------------------------------------------------------------------------


def test_an_archive_is_unpacked_once(predict, tmp_path, monkeypatch):
    np.savez_compressed(tmp_path / "stack.npz", depth=np.stack([disc_frame(60 + i, 60) for i in range(8)]))
    member, calls = depth_files._member, []
    monkeypatch.setattr(depth_files, "_member", lambda path: calls.append(path) or member(path))
    assert predict(tmp_path / "stack.npz", "--batch", 2).code == 0
    assert len(calls) == 1


@pytest.mark.parametrize(
    "options", [("--stages", -1), ("--hand", "both"), ("--cube", 0), ("--device", "gpu"), ("--missing", "drop")]
)
def test_values_that_an_option_does_not_have(predict, disc_recording, options):
    done = predict(disc_recording, *options)
    assert done.code == 2
    assert str(options[0]) in done.error


@pytest.mark.parametrize(
    ("cube", "meant"),
    [("0.15", "0.15 m are 150 mm"), ("15", "15 cm are 150 mm"), ("5000", "30 to 500 mm"), ("nan", "nan")],
)
def test_cubes_that_hold_no_hand_are_refused_with_the_likely_unit(predict, disc_recording, cube, meant):
    done = predict(disc_recording, "--cube", cube)
    assert done.code == 2
    assert meant in done.error


def test_bad_input_is_one_line(predict, disc_recording, tmp_path):
    for arguments, camera, message in (
        ((tmp_path / "nowhere",), CAMERA, "no such file or folder"),
        ((disc_recording, "--pattern", "x*"), CAMERA, "no file x*"),
        ((disc_recording,), "0,1,2", "not known"),
        ((disc_recording,), "500,500,320,240", "belong to about 641x481"),
        ((disc_recording, "--depth-unit", "0.001"), CAMERA, "--depth-unit"),
        ((disc_recording, "--centers", disc_recording / "0.png"), CAMERA, "not a text file"),
        ((disc_recording, "--device", "cuda:99"), CAMERA, "--device cuda:99 is not available"),
    ):
        done = predict(*arguments, camera=camera)
        assert done.code == 1, arguments
        assert message in done.error


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--depth-unit", 0.125), "a hand is there with --depth-unit 1 (millimetres; 500 mm away)"),
        (("--depth-unit", 10), "a hand is there with --depth-unit 1 (millimetres; 500 mm away)"),
        (("--depth-unit", 1000), "Pass --depth-unit 1"),
        (("--depth-unit", 0.001), "Pass --depth-unit 1"),
        ({"camera": "nowhere.yaml"}, "nowhere.yaml: no such file; expected a camera file"),
        ({"camera": "240,240,160,120"}, "belong to about 321x241"),
        ({"camera": "60,60,40,30"}, "belong to about 81x61"),
        ({"camera": "80,60,120,120"}, "in the order cx, cy, fx, fy"),
        ({"out": "/dev/null"}, "not a regular file"),
    ],
)
def test_the_likely_mistake_is_named(predict, disc_recording, options, message):
    given = ((), options) if isinstance(options, dict) else (options, {})
    error = predict(disc_recording, *given[0], **given[1]).error
    assert message in error
    assert "missing=" not in error


@pytest.mark.parametrize(
    ("shape", "count"),
    [((120, 160), 1), ((120, 160, 1), 1), ((3, 120, 160), 3), ((3, 1, 120, 160), 3), ((3, 120, 160, 1), 3)],
)
def test_an_axis_of_one_channel_is_no_frame(predict, tmp_path, shape, count):
    frame = disc_frame(80, 60)
    np.save(tmp_path / "f.npy", np.stack([frame] * count).reshape(shape))
    assert predict(tmp_path / "f.npy", out=tmp_path / "o.txt").code == 0
    assert len(numbers(tmp_path / "o.txt")) == count


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


def test_frames_are_decoded_by_several_threads_at_a_time(predict, disc_recording, monkeypatch):
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
    assert predict(disc_recording, "--batch", 1).code == 0
    assert most[0] == 3


# --- uncertain frames ---------------------------------------------------------------------------------------------


def test_frames_with_a_large_predicted_error_are_reported_and_recorded(predict, disc_recording, tmp_path, monkeypatch):
    refine_once = PackedPoseREN.refine

    def predicting(self, crop, pose, stages):
        return *refine_once(self, crop, pose, stages)[:2], torch.full((len(crop),), 31.25)

    monkeypatch.setattr(PackedPoseREN, "refine", predicting)
    done = predict(disc_recording, out=tmp_path / "out.json")
    assert done.code == 0
    assert "WARNING  7 of 7 frames are uncertain" in done.err
    record = json.loads((tmp_path / "out.json.json").read_text())
    assert [entry["index"] for entry in record["uncertain"]] == list(range(7))
    assert {frame["error_mm"] for frame in json.loads((tmp_path / "out.json").read_text())["frames"]} == {31.25}
    again = predict(disc_recording, "--resume", out=tmp_path / "out.json")
    assert "WARNING  7 of 7 frames are uncertain" in again.err


def test_a_model_without_an_error_head_gives_no_predicted_error(predict, disc_recording, tmp_path):
    assert "uncertain" not in predict(disc_recording, out=tmp_path / "out.json").err
    assert all("error_mm" not in frame for frame in json.loads((tmp_path / "out.json").read_text())["frames"])
