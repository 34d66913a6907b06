# SPDX-License-Identifier: MIT
import json

import cv2
import numpy as np
import pytest
from helpers.drawn_hand import hand

CAMERA = "240,240,159.5,119.5"


@pytest.fixture
def run(poseren, small_model_file):  # a model that predicts no error: the drawn hands are not like real ones
    return lambda *arguments, camera=CAMERA: poseren(
        "doctor", *arguments, "--camera", camera, "--model", small_model_file
    )


@pytest.fixture
def recording(tmp_path):
    folder = tmp_path / "recording"
    folder.mkdir()
    for i in range(6):
        cv2.imwrite(str(folder / f"{i}.png"), hand(u=150 + 3 * i).astype(np.uint16))
    return folder


def test_all_is_well(run, recording, tmp_path):
    code, out, err = run(recording, "--picture", tmp_path / "d.png", "--frames", 3)
    assert (code, err) == (0, "")
    assert "checked 3 of 6 frames: no problems" in out
    assert [line.split()[0] for line in out.splitlines()[:-1]] == ["OK"] * 5
    picture = cv2.imread(str(tmp_path / "d.png"))
    assert picture.shape[1] > 1500
    assert picture.std() > 20


def test_a_wrong_unit(run, recording, tmp_path):
    code, out, err = run(recording, "--unit", 0.001, "--json", tmp_path / "d.json")
    assert (code, err) == (1, "")
    assert "ERROR    unit:" in out
    assert "--depth-unit 1 (millimetres" in out
    report = json.loads((tmp_path / "d.json").read_text())
    assert report["verdict"] == "fault"
    assert {frame["depth_unit"] for frame in report["frames"]} == {1.0}
    assert run(recording, "--depth-unit", 1, "--json", "-")[0] == 0


def test_json_on_stdout(run, recording):
    code, out, _ = run(recording, "--json", "-", camera="480,480,319.5,239.5")
    report = json.loads(out)
    assert (code, report["verdict"]) == (1, "fault")
    assert [f["check"] for f in report["findings"] if f["kind"] == "fault"] == ["camera"]


def test_unreadable_frames_are_findings(run, recording, tmp_path):
    cv2.imwrite(str(recording / "6.png"), hand().astype(np.uint8))
    cv2.imwrite(str(recording / "7.png"), hand()[:200].astype(np.uint16))
    (recording / "8.png").write_bytes(cv2.imencode(".jpg", np.zeros((240, 320, 3), np.uint8))[1].tobytes())
    code, out, _ = run(recording, "--frames", 9, "--picture", tmp_path / "d.png")
    assert code == 1
    assert "1 of 9 frames, 6.png for one" in out
    assert "8-bit" in out
    assert "1 of 9 frames, 8.png for one" in out  # another cause
    assert "several sizes" in out
    (tmp_path / "d.png").unlink()
    code, out, _ = run(recording / "6.png", "--picture", tmp_path / "d.png")
    assert code == 1
    assert "; picture:" not in out


def test_an_unreadable_frame_has_no_size(run, recording):
    (recording / "6.png").write_bytes(b"not a picture")
    code, out, _ = run(recording, "--frames", 9)
    assert code == 1
    assert "6.png" in out
    assert "several sizes" not in out


def test_bad_input(run, recording, tmp_path):
    assert run(recording, "--unit", 0)[0] == 2
    assert run(recording, "--cube", 0)[0] == 2
    for arguments, camera, message in (
        ((tmp_path / "nowhere",), CAMERA, "no such file or folder"),
        ((recording,), "1,2,3", "not known"),
        ((recording, "--picture", tmp_path / "d.txt"), CAMERA, ".png"),
        ((recording, "--json", tmp_path / "no" / "d.json"), CAMERA, "there is no folder"),
    ):
        code, out, err = run(*arguments, camera=camera)
        assert (code, out) == (1, "")
        assert message in err
        assert err.count("\n") == 1
