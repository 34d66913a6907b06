# SPDX-License-Identifier: MIT
"""`poseren predict`: every output format and joint layout."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command_line import DISC_CAMERA
from helpers.predictions import numbers, put

from poseren_ext.geometry.camera import Camera, uvd_to_xyz
from poseren_ext.geometry.joint_orders import in_order, joint_names
from poseren_ext.geometry.skeleton import SKELETONS

CAMERA = DISC_CAMERA


@pytest.fixture
def predicted(predict, disc_recording, tmp_path) -> Any:
    """uvd [7, 21, 3] of the recording, frame 4 without a result."""
    put(disc_recording / "4.png", b"")
    assert predict(disc_recording, out=tmp_path / "uvd.txt").code == 3
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
    return table["frame"].tolist(), table.to_numpy()[:, 4:].astype(float).reshape(-1, 21, 3)


@pytest.mark.parametrize("ending", ["csv", "json", "npz", "parquet"])
def test_every_format_holds_the_same_joints(predict, disc_recording, tmp_path, expected, ending):
    out = tmp_path / f"out.{ending}"
    assert predict(disc_recording, *LAYOUT, out=out).code == 3
    frames, joints = read_format(out)
    assert [Path(frame).name for frame in frames] == [f"{i}.png" for i in range(7)]
    np.testing.assert_allclose(joints, expected, atol=5e-6)
    assert not list(tmp_path.glob("*.partial"))


def test_json_says_what_it_holds(predict, disc_recording, tmp_path, predicted):
    assert predict(disc_recording, *LAYOUT, out=tmp_path / "out.json").code == 3
    content = json.loads((tmp_path / "out.json").read_text())
    assert content["joint_names"] == list(joint_names("mediapipe"))
    assert (content["units"], content["coordinate_frame"], content["order"]) == (["m"] * 3, "camera", "mediapipe")
    assert content["frames"][0]["hand"] == "right"
    assert content["missing"][0]["frame"].endswith("4.png")
    assert content["frames"][4] == {"frame": content["missing"][0]["frame"], "hand_id": 0, "joints": None}


def test_joints_that_the_model_does_not_have_are_named(predict, disc_recording, tmp_path):
    done = predict(disc_recording, "--order", "openxr26", "--space", "xyz")
    assert done.code == 0
    assert "joints that the model does not have are nan: palm, index metacarpal, " in done.err
    row = np.array((tmp_path / "out.txt").read_text().splitlines()[0].split(), float).reshape(26, 3)
    assert np.isnan(row).all(1).nonzero()[0].tolist() == [0, 6, 11, 16, 21]


def test_world_and_palm_frames(predict, disc_recording, tmp_path, predicted):
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]], (100, 200, 300)
    np.savetxt(tmp_path / "world.txt", matrix)
    xyz = uvd_to_xyz(predicted, Camera(120, 120, 80, 60), check=False)
    options = ("--space", "xyz", "--extrinsics", tmp_path / "world.txt")
    assert predict(disc_recording, *options).code == 3
    world = np.stack([xyz[..., 2] + 100, 200 - xyz[..., 0], 300 - xyz[..., 1]], -1)
    np.testing.assert_allclose(numbers(tmp_path / "out.txt"), world, atol=5e-3)
    assert predict(disc_recording, "--space", "xyz", "--frame", "palm", "--overwrite").code == 3
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
def test_endings_of_formats_that_are_not_written_are_refused(predict, disc_recording, tmp_path, ending):
    done = predict(disc_recording, out=tmp_path / f"out.{ending}")
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
def test_layouts_that_make_no_sense(predict, disc_recording, tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    np.savetxt("flat.txt", np.zeros((4, 4)))
    np.savetxt("short.txt", np.zeros(5))
    Path("text.txt").write_text("text")
    assert message in predict(disc_recording, *options).error
    assert not (tmp_path / "out.txt").exists()
