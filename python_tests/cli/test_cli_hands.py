# SPDX-License-Identifier: MIT
"""Several hands per frame: `poseren predict --max-hands 2` and `poseren eval` with labels of any number of hands."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
from helpers.live_frames import moving, two_hands

CAMERA = ("--camera", "238,238,159.5,119.5")
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def frames(tmp_path: Path) -> Path:
    """Frames with 2, 0, 1 and 2 hands."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for i, depth in enumerate([two_hands(1)[0], np.full((240, 320), 3000, np.uint16), moving(1)[0], two_hands(5)[4]]):
        cv2.imwrite(str(folder / f"{i}.png"), depth)
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def test_one_line_per_hand_with_frame_hand_id_and_side(poseren: Run, frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "hands.csv"
    predict = ("predict", frames, *CAMERA, "--hand", "auto", "--max-hands", 2, "--out", out)
    code, _, err = poseren(*predict)
    assert code == 3  # a frame without a hand
    assert "1.png: no hand was found" in err
    found = [(Path(row["frame"]).name, row["hand_id"]) for row in rows(out)]
    assert found[:3] == [("0.png", "0"), ("0.png", "1"), ("1.png", "0")]
    assert found[-2:] == [("3.png", "0"), ("3.png", "1")]
    assert {row["hand"] for row in rows(out)[:2]} == {"left", "right"}
    assert rows(out)[2]["hand"] == ""
    whole = out.read_bytes()
    record = Path(f"{out}.json")
    before = json.loads(record.read_text())
    for kept in (2, 3, 4, len(whole.splitlines())):  # killed after any line, also between two hands of a frame
        out.write_bytes(b"".join(whole.splitlines(keepends=True)[:kept]))
        record.write_text(json.dumps(before | {"complete": False}))
        assert poseren(*predict, "--resume")[0] == 3
        assert out.read_bytes() == whole
    for name in ("hands.json", "hands.npz", "hands.parquet"):
        assert poseren(*predict[:-1], tmp_path / name, "--output-unit", "m", "--order", "mediapipe")[0] == 3
        code, text, _ = poseren("eval", "--gt", out, "--pred", tmp_path / name, *CAMERA, "--json", "-")
        (system,) = json.loads(text)["systems"]
        assert (code, system["found"], system["missed"], system["false"]) == (0, system["hands"], 0, 0)
        assert system["same_side"] == system["hands"] > 3
        assert system["mean_3d"] < 0.01
    assert [entry["hand_id"] for entry in json.loads((tmp_path / "hands.json").read_text())["frames"]] == [
        int(row["hand_id"]) for row in rows(out)
    ]
    np.testing.assert_array_equal(
        np.load(tmp_path / "hands.npz")["hand_ids"], [int(row["hand_id"]) for row in rows(out)]
    )


def test_text_files_and_given_centres_are_for_one_hand(poseren: Run, frames: Path, tmp_path: Path) -> None:
    code, _, err = poseren("predict", frames, *CAMERA, "--max-hands", 2, "--out", tmp_path / "x.txt")
    assert code == 1
    assert "text files have one line per frame" in err
    (tmp_path / "centers.txt").write_text("1 2 500\n" * 4)
    arguments = ("--max-hands", 2, "--out", tmp_path / "x.csv", "--centers", tmp_path / "centers.txt")
    assert poseren("predict", frames, *CAMERA, *arguments)[0] == 2


def test_eval_pairs_hands_and_counts_missed_and_false_ones(poseren: Run, frames: Path, tmp_path: Path) -> None:
    out = tmp_path / "hands.csv"
    poseren("predict", frames, *CAMERA, "--hand", "auto", "--max-hands", 2, "--out", out)
    labels = rows(out)
    present = [i for i, row in enumerate(labels) if row["hand"]]
    moved, missed = [dict(row) for row in labels], present[-1]
    for name in moved[present[0]]:
        if name.endswith("_z"):  # 10 mm farther
            moved[present[0]][name] = str(float(labels[present[0]][name]) + 10)
    del moved[missed]
    with (tmp_path / "other.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(labels[0]))
        writer.writeheader()
        writer.writerows(moved[::-1])
    code, text, _ = poseren("eval", "--gt", out, "--pred", tmp_path / "other.csv", *CAMERA, "--json", "-")
    assert code == 0
    (system,) = json.loads(text)["systems"]
    assert (system["hands"], system["missed"], system["false"]) == (len(present), 1, 0)
    assert system["mean_3d"] == pytest.approx(10 / (len(present) - 1), abs=1e-3)
    code, text, _ = poseren("eval", "--gt", tmp_path / "other.csv", "--pred", f"ours={out}", *CAMERA)
    assert code == 0
    assert "ours" in text
    (system,) = json.loads(poseren("eval", "--gt", tmp_path / "other.csv", "--pred", out, *CAMERA, "--json", "-")[1])[
        "systems"
    ]
    assert (system["missed"], system["false"]) == (0, 1)
    assert poseren("eval", "--gt", out, "--pred", out, *CAMERA, "--plot", tmp_path / "x.png")[0] == 2
