# SPDX-License-Identifier: MIT
"""The JSON lines of `poseren live`: one per frame, in the format of `line.schema.json` beside this file."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any, cast

import torch

from poseren_ext.io.joint_layout import JointLayout
from poseren_ext.live.estimator import LiveResult
from poseren_ext.live.tracking import TrackedHand

LINE_VERSION = 1
"""Version of the format. It changes when a reader of an earlier version could misread a line."""


def line_schema() -> dict[str, Any]:
    """The JSON Schema (2020-12) of a line."""
    text = files(__package__).joinpath("line.schema.json").read_text(encoding="utf-8")
    return cast("dict[str, Any]", json.loads(text))


def result_line(result: LiveResult, layout: JointLayout | None = None, *, file: str | None = None) -> str:
    """A result as one line of JSON: frame, time, outcome, and the hands with their joints.

    Args:
        result: the result of one frame.
        layout: layout of the joints, written with its description; default: uvd, and xyz in mm.
        file: name of the recorded frame.
    """
    line: dict[str, Any] = {
        "version": LINE_VERSION,
        "frame": result.frame.number,
        "time": round(result.time, 4),
        "outcome": result.outcome,
        "latency_ms": round(1e3 * result.latency, 2),
    }
    line |= {name: text for name, text in (("reason", result.reason), ("file", file)) if text}
    if result.hands:
        skeleton = result.hands[0].pose.skeleton
        about = (layout or JointLayout("uvd")).describe(skeleton)
        line |= {key: about[key] for key in ("order", "joint_names")}
        if layout is not None:
            line |= {key: about[key] for key in ("space", "units", "coordinate_frame")}
    line["hands"] = [_hand(hand, layout) for hand in result.hands]
    return json.dumps(line, separators=(",", ":"))


def _hand(hand: TrackedHand, layout: JointLayout | None) -> dict[str, Any]:
    pose = hand.pose
    described: dict[str, Any] = {
        "track": hand.track,
        "hand": pose.hand[0],
        "side_probability": round(hand.side_probability, 4),
        "mode": hand.mode,
        "score": round(hand.score, 3),
        "center": [round(value, 2) for value in torch.as_tensor(pose.center).tolist()],
    }
    if pose.error_mm is not None:
        described["error_mm"] = round(float(pose.error_mm), 1)
    if layout is None:
        return described | {"uvd": _rounded(pose.uvd), "xyz": _rounded(pose.joints)}
    (frame,) = pose.to_dict(layout)["frames"]
    return described | {"joints": frame["joints"]}


def _rounded(joints: Any) -> list[list[float]]:
    return [[round(value, 2) for value in joint] for joint in torch.as_tensor(joints).tolist()]
