# SPDX-License-Identifier: MIT
"""Pairing of predicted with labelled hands, checked against every possible pairing."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import numpy as np
import pytest

from poseren_ext.evaluation.hand_pairs import FARTHEST, evaluate_hands, pair_hands
from poseren_ext.geometry.camera import Camera, xyz_to_uvd
from poseren_ext.io.hand_files import Hand, HandFileError, read_hands, same_frames

CAMERA = Camera(238, 238, 159.5, 119.5, 320, 240)


def hand(x: float, side: str = "right", joints: int = 3) -> Hand:
    return Hand(np.tile([x, 0.0, 500.0], (joints, 1)), side)


def test_pairs_are_the_best_of_all_pairings() -> None:
    random = np.random.default_rng(0)
    for _ in range(200):
        labels = [hand(x) for x in random.uniform(0, 150, random.integers(0, 4))]
        found = [hand(x) for x in random.uniform(0, 150, random.integers(0, 4))]
        pairs = pair_hands(labels, found)
        best = (0, 0.0)
        short, long = sorted((labels, found), key=len)
        for chosen in itertools.permutations(range(len(long)), len(short)):
            near = [abs(short[i].joints[0, 0] - long[k].joints[0, 0]) for i, k in enumerate(chosen)]
            near = [one for one in near if one <= FARTHEST]
            best = min(best, (-len(near), sum(near)))
        assert (-len(pairs), sum(pair[2] for pair in pairs)) == pytest.approx(best)


def test_missed_and_false_hands_are_counted_apart_from_the_error() -> None:
    labels = [[hand(0, "left"), hand(200, "right")], [hand(0)], [], [hand(0)]]
    found = [[hand(210, "right"), hand(4, "right")], [], [hand(50)], [hand(300), hand(6)]]
    result = evaluate_hands(labels, found, name="x")
    assert (result.hands, result.found, result.missed, result.false) == (4, 3, 1, 2)
    assert result.mean_3d == pytest.approx((10 + 4 + 6) / 3)
    assert (result.same_side, result.sides) == (2, 3)
    assert (result.recall, result.precision) == (0.75, 0.6)
    assert math.isnan(evaluate_hands([[]], [[]]).recall)
    with pytest.raises(ValueError, match="1 frames are predicted"):
        evaluate_hands([[]] * 2, [[]])


def write(path: Path, lines: list[str]) -> Path:
    path.write_text("\n".join(lines) + "\n")
    return path


def test_files_in_uvd_and_xyz_hold_the_same_hands_in_any_order_of_columns(tmp_path: Path) -> None:
    joints = np.array([[10.0, -20.0, 400.0], [0.0, 5.0, 420.0]])
    uvd = xyz_to_uvd(joints, CAMERA)
    text = ",".join(str(value) for value in uvd.reshape(-1))
    one = write(
        tmp_path / "labels.csv",
        ["frame,kind,side,visible,a b_u,a b_v,a b_d,c_u,c_v,c_d", f"d/0.png,one,left,1,{text}", "d/1.png,empty,none,0"],
    )
    c, a = (",".join(str(value) for value in joints[i]) for i in (1, 0))
    two = write(
        tmp_path / "found.csv",
        ["frame,hand_id,hand,error_mm,c_x,c_y,c_z,a_b_x,a_b_y,a_b_z", f"run/d/0.png,0,left,,{c},{a}", "d/1.png,0,,,,,"],
    )
    labels, names = read_hands(one, CAMERA)
    found, _ = read_hands(two, CAMERA, names)
    assert names == ["a b", "c"]
    assert list(labels) == ["d/0.png", "d/1.png"]
    truth, predicted = same_frames(labels, found, two)
    assert [len(hands) for hands in truth] == [len(hands) for hands in predicted] == [1, 0]
    np.testing.assert_allclose(truth[0][0].joints, joints, atol=1e-3)
    np.testing.assert_allclose(predicted[0][0].joints, joints)
    assert truth[0][0].side == predicted[0][0].side == "left"


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["a,b", "1,2"], "no column"),
        (["frame,side", "x,left"], "no columns of joints"),
        (["frame,side,a_u,a_v,a_d", "x,left,1,2,z"], "line 2: could not convert"),
        (["frame,side,a_u,a_v,a_d", "x,left,1,,3"], "line 2"),
        (["frame,side,a_u,a_v,a_d", "x,left,1,nan,3"], "line 2: a joint is missing"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(HandFileError, match=message):
        read_hands(write(tmp_path / "x.csv", lines), CAMERA)


def test_frames_without_a_label_are_refused(tmp_path: Path) -> None:
    with pytest.raises(HandFileError, match="frame b is not labelled; expected frames such as a"):
        same_frames({"a": []}, {"b": []}, tmp_path)
