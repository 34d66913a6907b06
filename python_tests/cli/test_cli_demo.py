# SPDX-License-Identifier: MIT
import json
import re

import cv2
import numpy as np
import pytest
from helpers.published_data import PUBLISHED, needs_published_data
from helpers.small_models import save_small_model

from poseren_ext.inference.hand_detection import presumed_hand


@pytest.fixture
def run(tmp_path, poseren):
    def call(*arguments, skeleton="msra21"):
        model = save_small_model(tmp_path / "tiny.safetensors", skeleton)
        return poseren("demo", "--model", model, "--out", tmp_path / "demo.png", *arguments)

    return call


@pytest.mark.parametrize("skeleton", ["msra21", "nyu14"])
def test_synthetic_hands(run, tmp_path, skeleton):
    code, out, err = run("--frames", 8, "--json", tmp_path / "demo.json", skeleton=skeleton)
    assert (code, err) == (0, "")
    report = json.loads((tmp_path / "demo.json").read_text())
    assert (report["frames"], report["no_hand"]) == (8, 0)
    assert list(report["view_error_mm"]) == ["palm", "side", "back", "held object"]
    assert sum(report["view_error_mm"].values()) / 4 == pytest.approx(report["error_mm"][-1])
    for view, error in report["view_error_mm"].items():
        assert re.search(rf"{view} +│ +{error:.2f}", out)
    assert len(report["error_mm"]) == 4
    assert report["error_mm"][0] > 20  # it has learned nothing
    assert report["windows_moved"][0] == 1.0
    assert all(0 <= share <= 1 for share in report["windows_moved"])
    assert report["frames_per_second"] > 0
    for line, error in zip(("initial pose", "stage 1", "stage 2", "stage 3"), report["error_mm"], strict=True):
        assert re.search(rf"{line} +│ +{error:.2f}", out)
    picture = cv2.imread(str(tmp_path / "demo.png"))
    assert picture.shape[0] > 1000
    assert picture.std() > 20


def test_a_frame_in_which_no_hand_is_found_does_not_end_it(run, monkeypatch):
    def none_in_the_first(depth, *args, **kwargs):
        calls.append(depth)
        return None if len(calls) <= 2 else presumed_hand(depth, *args, **kwargs)  # the first frame runs twice

    calls = []
    monkeypatch.setattr("poseren_ext.inference.estimator.presumed_hand", none_in_the_first)
    code, out, err = run("--frames", 4)
    assert (code, err) == (0, "")
    assert "No hand was found in 1 of them; the errors are those of the others" in out
    assert "palm" not in out.split("the camera sees")[1]


def test_own_frames(run, tmp_path):
    rows, columns = np.mgrid[:120, :160]
    disc = np.where((rows - 60) ** 2 + (columns - 80) ** 2 < 100, 500, 0).astype(np.uint16)
    np.save(tmp_path / "mine.npy", np.stack([disc, disc]))
    code, out, err = run("--input", tmp_path / "mine.npy", "--camera", "120,120,80,60", "--json", "-")
    assert (code, err) == (0, "")
    report = json.loads(out)
    assert report["frames"] == 2
    assert "error_mm" not in report
    assert report["motion_mm"][0] > 1


def test_bad_input(run, tmp_path):
    flat = np.full((120, 160), 500, np.uint16)
    np.save(tmp_path / "flat.npy", flat)
    cv2.imwrite(str(tmp_path / "grey.png"), flat.astype(np.uint8))
    np.save(tmp_path / "small.npy", flat[:100])
    camera = ("--camera", "120,120,80,60")
    assert run("--input", tmp_path / "flat.npy")[0] == 2
    assert run("--frames", 0)[0] == 2
    for arguments, message in (
        (("--input", tmp_path / "nowhere", *camera), "no such file or folder"),
        (("--input", tmp_path / "flat.npy", *camera), "flat: no hand"),
        (("--input", tmp_path / "grey.png", *camera), "8-bit grey PNG"),
        (("--input", tmp_path / "flat.npy", "--input", tmp_path / "small.npy", *camera), "small.npy is 160x100 but"),
        (("--model", tmp_path / "none.safetensors"), "no model"),
        (("--frames", 4, "--out", tmp_path / "demo.txt"), ".png"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (1, ""), arguments
        assert message in err
        assert err.count("\n") == 1
    assert not (tmp_path / "demo.png").exists()
    (tmp_path / "demo.png").write_text("mine")
    code, _, err = run("--frames", 4)
    assert (code, "demo.png exists; --overwrite replaces it" in err) == (1, True)
    assert (tmp_path / "demo.png").read_text() == "mine"


@needs_published_data
def test_recorded_frames(run, tmp_path):
    folder = PUBLISHED / "sr305" / "20210326-231615"
    code, out, _ = run("--input", folder, "--camera", "sr305", "--depth-unit", 0.125)
    assert code == 0
    assert "11 frames" in out
