# SPDX-License-Identifier: MIT
"""`poseren eval --pred` with every file that `poseren predict` writes: the same numbers as with its text files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.command_line import DISC_CAMERA
from helpers.predictions import numbers, put

from poseren_ext.io.pose_files import write_poses

MATRIX = np.array([[0, 0, 1, 0.1], [-1, 0, 0, 0.2], [0, -1, 0, 0.3], [0, 0, 0, 1]])
LAYOUTS = {
    "mm": (),
    "pixels": ("--space", "uvd"),
    "metres in MediaPipe's order": ("--output-unit", "m", "--order", "mediapipe"),
    "OpenXR's joints": ("--order", "openxr26"),
    "the dataset's order": ("--order", "msra21"),
    "the world": ("--output-unit", "m", "--extrinsics", "world.txt"),
}
FORMATS = ("csv", "json", "npz", "parquet")


@pytest.fixture
def labelled(predict, disc_recording, tmp_path, monkeypatch) -> Any:
    """Predictions joints.txt and labels gt.txt of the recording, which differ by less than 40 mm."""
    monkeypatch.chdir(tmp_path)
    np.savetxt("world.txt", MATRIX)
    assert predict(disc_recording, out="joints.txt").code == 0
    write_poses("gt.txt", numbers(Path("joints.txt")) + np.random.default_rng(0).uniform(-9, 9, (7, 21, 3)))
    return disc_recording


@pytest.fixture
def evaluate(poseren):
    """Runs `poseren eval` on the labels: exit status, systems, errors."""

    def call(*pred: object, dataset: str = "msra", options: tuple[object, ...] = ()) -> tuple[int, list[Any], str]:
        given = [part for one in pred for part in ("--pred", one)]
        camera = ("--camera", DISC_CAMERA, "--json", "-")
        code, out, err = poseren("eval", "--dataset", dataset, "--gt", "gt.txt", *given, *camera, *options)
        return code, json.loads(out)["systems"] if code == 0 else [], err

    return call


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("ending", FORMATS)
def test_every_format_and_layout_gives_the_numbers_of_the_text_file(predict, labelled, evaluate, ending, layout):
    out = Path(f"other.{ending}")
    assert predict(labelled, *LAYOUTS[layout], out=out).code == 0
    code, systems, err = evaluate("joints.txt", out)
    assert (code, err) == (0, "")
    ours, other = (next(one for one in systems if one["name"] == name) for name in ("joints", "other"))
    assert ours["mean_3d"] > 5
    for name in ("mean_3d", "mean_2d", "per_joint"):
        np.testing.assert_allclose(other[name], ours[name], atol=5e-3)


def test_options_for_files_of_numbers_do_not_apply_to_files_that_name_their_joints(predict, labelled, evaluate):
    assert predict(labelled, "--space", "xyz", out="mine.txt").code == 0
    assert predict(labelled, "--order", "mano", out="other.csv").code == 0
    code, systems, _ = evaluate("mine.txt", "other.csv", options=("--format", "xyz"))
    assert code == 0
    assert systems[0]["mean_3d"] == pytest.approx(systems[1]["mean_3d"], abs=5e-3)


@pytest.mark.parametrize("ending", FORMATS)
def test_a_part_of_the_frames(predict, labelled, evaluate, ending):
    whole, part = Path(f"whole.{ending}"), Path(f"part.{ending}")
    assert predict(labelled, out=whole).code == 0
    assert predict(labelled, "--pattern", "[345].png", out=part).code == 0
    _, systems, _ = evaluate(whole, part, options=("--frames", "3:6"))
    assert [one["frames"] for one in systems] == [3, 3]
    assert systems[0]["mean_3d"] == pytest.approx(systems[1]["mean_3d"], abs=1e-3)
    assert f"{part}: 3 lines; the labels have 7" in evaluate(part)[2]


def test_a_frame_without_a_result_is_named(predict, labelled, evaluate):
    put(labelled / "4.png", b"")
    for ending, place in (("csv", "other.csv, line 6"), ("json", "other.json, frame ")):
        assert predict(labelled, out=f"other.{ending}").code == 3
        code, _, err = evaluate(f"other.{ending}")
        assert code == 1
        assert place in err
        assert "1 of 7 frames are like that" in err
        assert evaluate(f"other.{ending}", options=("--frames", "0:4"))[0] == 0
        code, _, err = evaluate(f"other.{ending}", options=("--frames", "2:6"))
        assert (code, place in err) == (1, True)


def test_the_unit_of_a_csv_file_is_in_its_record(predict, labelled, evaluate):
    assert predict(labelled, "--output-unit", "m", out="other.csv").code == 0
    Path("other.csv.json").unlink()
    code, _, err = evaluate("other.csv")
    assert code == 1
    assert "depths look like metres" in err
    assert "(other.csv.json)" in err


@pytest.mark.parametrize(
    ("options", "dataset", "message"),
    [
        (("--frame", "palm"), "msra", "joints in the palm frame, which does not tell where the hand is"),
        (("--order", "icvl16"), "msra", "16 joints, without wrist, "),
        (("--order", "mediapipe"), "icvl", "Did you mean --dataset msra or hands17?"),
    ],
)
def test_what_cannot_be_compared(predict, labelled, evaluate, options, dataset, message):
    assert predict(labelled, *options, out="other.json").code == 0
    if dataset == "icvl":
        write_poses("gt.txt", np.random.default_rng(0).uniform(100, 400, (7, 16, 3)))
    code, _, err = evaluate("other.json", dataset=dataset)
    assert code == 1
    assert message in err
    assert err.count("\n") == 1


def test_a_record_is_not_a_file_of_joints(labelled, evaluate):
    code, _, err = evaluate("joints.txt.json")
    assert code == 1
    assert "the record of a run, whose joints are in joints.txt" in err


def test_several_hands_in_a_frame_need_labels_of_hands(labelled, evaluate):
    names = [f"{joint}_{axis}" for joint in "ab" for axis in "xyz"]
    Path("two.csv").write_text(f"frame,hand_id,{','.join(names)}\na,0,0,0,500,0,0,500\na,1,0,0,500,0,0,500\n")
    assert "several hands in frame a" in evaluate("two.csv")[2]


def test_a_folder_stands_for_its_files_of_joints(predict, labelled, evaluate):
    folder = Path("runs")
    folder.mkdir()
    for ending in ("txt", *FORMATS):
        assert predict(labelled, out=folder / f"{ending}.{ending}").code == 0
    (folder / "log.csv").write_text("step,loss\n1,2\n")  # neither these
    (folder / "errors.json").write_text('{"systems": []}')
    (folder / "noise.json").write_text("{")
    (folder / ".hidden.txt").write_text("")
    code, systems, _ = evaluate(folder)
    assert code == 0
    assert sorted(one["name"] for one in systems) == sorted(["txt", *FORMATS])
    (folder / "txt.csv").write_bytes((folder / "csv.csv").read_bytes())
    assert "two predictions are called 'txt'" in evaluate(folder)[2]
    Path("empty").mkdir()
    assert "no file of predictions in this folder" in evaluate("empty")[2]
