# SPDX-License-Identifier: MIT
"""The doctor names the wrong hand and a view that the model does not know, by the predicted errors of both hands."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from helpers.drawn_hand import hand

from poseren_ext.geometry.camera import Camera
from poseren_ext.inference.diagnosis import examine
from poseren_ext.inference.forearm import forearm_remark
from poseren_ext.inference.pose_check import PoseCheck, judge
from poseren_ext.models.packed import PackedPoseREN

CAMERA = Camera(240, 240, 159.5, 119.5)


@pytest.mark.parametrize(
    ("own", "right", "left", "kind", "says"),
    [
        ("right", 9, 30, "fine", "9 mm for a right hand, 30 mm for a left one"),
        ("right", 12, 10, "fine", "12 mm for a right hand"),
        ("right", 40, 12, "note", "this looks like a left hand; give --hand left"),
        ("right", 25, 12, "note", "give --hand left"),
        ("left", 12, 40, "note", "give --hand right"),
        ("left", 45, 60, "note", "the pose is uncertain"),
        ("right", 45, 44, "note", "the pose is uncertain (the back of a hand"),
        ("right", 35, 80, "note", "--model both"),
    ],
)
def test_the_finding_and_its_remedy(own, right, left, kind, says):
    finding = judge(own, {"right": right, "left": left})
    assert (finding.kind, finding.check) == (kind, "pose")
    assert says in finding.text


@pytest.mark.parametrize("model", ["any_view", "both"])
def test_a_model_that_knows_every_side_is_not_sent_to_itself(model):
    assert "--model" not in judge("right", {"right": 45.0, "left": 50.0}, model).text


def _arm(width=70.0, length=220.0, end=None, angle=0.0):
    """A strip of this width and length, mm, 500 mm away, from the lower border on; ``end``: the radius of a fist."""
    rows, columns = np.mgrid[:240, :320]
    x, y = (columns - 160) * 500 / 240, (239 - rows) * 500 / 240
    along, across = y * np.cos(angle) + x * np.sin(angle), x * np.cos(angle) - y * np.sin(angle)
    shape = (np.abs(across) < width / 2) & (along < length)
    if end:
        shape |= (along - length) ** 2 + across**2 < end**2
    return np.where(shape, 500.0, 0).astype(np.float32)


@pytest.mark.parametrize("angle", [0.0, 0.4, -0.7])
@pytest.mark.parametrize("width", [45.0, 70.0, 90.0])
def test_a_forearm_alone_is_named(width, angle):
    region = examine(_arm(width, angle=angle), CAMERA).region
    remark = forearm_remark(region)
    assert float(re.match(r"the surface is (\d+) mm wide", remark)[1]) == pytest.approx(width, rel=0.15)
    finding = judge("right", {"right": 50.0, "left": 60.0}, remark=remark)
    assert finding.kind == "note"
    assert "only a forearm is in view, or a fist; move the whole hand" in finding.text
    assert judge("right", {"right": 9.0, "left": 60.0}, remark=remark).kind == "fine"


@pytest.mark.parametrize(
    "frame",
    [
        hand(),
        np.maximum(hand(v=110), _arm(45.0, 240.0)),  # a hand with its arm
        _arm(60.0, 120.0, end=60.0),
        _arm(length=90.0),  # too short to tell
    ],
)
def test_other_surfaces_are_not_called_a_forearm(frame):
    camera = Camera(240, 240, 159.5, (len(frame) - 1) / 2)
    assert forearm_remark(examine(frame, camera).region) == ""


def test_a_forearm_is_named_without_an_error_head(monkeypatch):
    refine_once = PackedPoseREN.refine
    monkeypatch.setattr(PackedPoseREN, "refine", lambda *given: (*refine_once(*given)[:2], None))
    checkup = examine(_arm(), CAMERA)
    finding = PoseCheck("demo")(checkup.depth, checkup.region)
    assert (finding.kind, finding.check) == ("note", "hand")


@pytest.mark.parametrize(("asked", "says"), [("right", "give --hand left"), ("left", "11 mm"), ("auto", "11 mm")])
@pytest.mark.parametrize("unit", [1.0, 0.125])
def test_both_hands_are_computed_at_the_centre_found(monkeypatch, asked, says, unit):
    refine_once = PackedPoseREN.refine
    frame = hand() / unit
    checkup = examine(frame, CAMERA, depth_unit=unit)

    def predicting(self, crop, pose, stages):
        mirrored = crop[:, 0].flip(-1)
        left = torch.equal(mirrored.round(), predicting.right.round()) if hasattr(predicting, "right") else False
        predicting.right = crop[:, 0]
        return *refine_once(self, crop, pose, stages)[:2], torch.full((len(crop),), 11.0 if left else 44.0)

    monkeypatch.setattr(PackedPoseREN, "refine", predicting)
    finding = PoseCheck(hand=asked)(checkup.depth, checkup.region)
    assert says in finding.text


def test_a_model_without_an_error_head_says_nothing(monkeypatch):
    refine_once = PackedPoseREN.refine
    monkeypatch.setattr(PackedPoseREN, "refine", lambda *given: (*refine_once(*given)[:2], None))
    checkup = examine(hand(), CAMERA)
    assert PoseCheck("demo")(checkup.depth, checkup.region) is None
