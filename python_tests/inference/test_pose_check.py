# SPDX-License-Identifier: MIT
"""The doctor names the wrong hand and a view that the model does not know, by the predicted errors of both hands."""

from __future__ import annotations

import pytest
import torch
from helpers.drawn_hand import hand

from poseren_ext.geometry.camera import Camera
from poseren_ext.inference.diagnosis import examine
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
    assert PoseCheck()(checkup.depth, checkup.region) is None
