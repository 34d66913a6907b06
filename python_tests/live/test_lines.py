# SPDX-License-Identifier: MIT
"""The JSON lines of `poseren live` follow their schema."""

from __future__ import annotations

import json
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest
from helpers.command_line import exit_status
from helpers.live_frames import CAMERA, moving, still, two_hands

from poseren_ext import Estimator
from poseren_ext.io.joint_layout import JointLayout
from poseren_ext.live import LINE_VERSION, LiveEstimator, StreamFrame, line_schema, result_line

pytestmark = pytest.mark.usefixtures("surface_detection")


@pytest.fixture(scope="module")
def validator() -> Any:
    jsonschema.Draft202012Validator.check_schema(line_schema())
    return jsonschema.Draft202012Validator(line_schema())


def test_every_line_of_the_command_follows_the_schema(validator: Any, tmp_path: Any) -> None:
    frames = [*moving(3), np.zeros((240, 320), np.uint16), np.full((240, 320), 3000, np.uint16)]
    frames += [two_hands(1)[0]]
    for i, depth in enumerate(frames):
        cv2.imwrite(str(tmp_path / f"{i}.png"), depth)
    camera = ("--camera", f"{CAMERA.fx},{CAMERA.fy},{CAMERA.cx},{CAMERA.cy}")
    for number, layout in enumerate(((), ("--space", "xyz", "--order", "openxr26", "--output-unit", "m"))):
        out = tmp_path / f"{number}.jsonl"
        arguments = ("live", tmp_path, *camera, "--max-hands", 2, "--headless", "--out", out, *layout)
        assert exit_status(*arguments) == 0
        lines = [json.loads(line) for line in out.read_text().splitlines()]
        for line in lines:
            validator.validate(line)
        assert {line["version"] for line in lines} == {LINE_VERSION}
        assert [line["outcome"] for line in lines][:5] == ["detected", "tracked", "tracked", "skipped", "no hand"]
        assert [line["time"] for line in lines] == pytest.approx([i / 30 for i in range(6)], abs=1e-4)
        assert len(lines[0]["joint_names"]) == (26 if layout else 21)
        hand = lines[0]["hands"][0]
        assert len(hand["joints"] if layout else hand["uvd"]) == len(lines[0]["joint_names"])


def test_the_schema_refuses_lines_that_lack_something(validator: Any) -> None:
    estimator = Estimator("demo", camera=CAMERA)
    result = LiveEstimator(estimator).step(StreamFrame(still(), 0))
    line = json.loads(result_line(result, JointLayout("xyz")))
    validator.validate(line)
    for name in validator.schema["required"]:
        assert not validator.is_valid({key: value for key, value in line.items() if key != name})
    for name in validator.schema["$defs"]["hand"]["required"]:
        hand = {key: value for key, value in line["hands"][0].items() if key != name}
        assert not validator.is_valid(line | {"hands": [hand]})
    assert not validator.is_valid(line | {"hands": []})
    assert not validator.is_valid(line | {"version": LINE_VERSION + 1})
    assert not validator.is_valid(line | {"other": 1})
