# SPDX-License-Identifier: MIT
"""Hands of a stream as an MCAP file, for Foxglove and ROS tools: needs mcap, the extra ``mcap``."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import torch

from poseren_ext._utils.optional_libraries import import_library
from poseren_ext.geometry.skeleton import Skeleton
from poseren_ext.io.joint_layout import JointLayout
from poseren_ext.live.estimator import LiveResult
from poseren_ext.live.lines import line_schema, result_line

HANDS_TOPIC, SCENE_TOPIC = "/poseren/hands", "/poseren/scene"
_CHUNK = 1 << 16  # bytes; what a killed process leaves of older chunks can be recovered

# Thumb, index, middle, ring, pinky, and palm or wrist, as in pictures.
_COLORS = ((0.84, 0.37, 0), (0.9, 0.62, 0), (0, 0.62, 0.45), (0.34, 0.71, 0.91), (0.8, 0.47, 0.65), (0.24, 0.24, 0.24))
_LINE_LIST = 2  # pairs of points
_SCENE_SCHEMA = {"title": "foxglove.SceneUpdate", "type": "object", "properties": {"entities": {"type": "array"}}}


class McapLog:
    """An MCAP file with two topics, written while the stream runs.

    ``/poseren/hands``: the JSON lines of `result_line`, with their schema. ``/poseren/scene``: the skeletons as
    foxglove.SceneUpdate, in metres, frame ``camera`` (x right, y down, z forward).

    Args:
        path: the file; an existing one is replaced.
        layout: of the joints in the JSON lines.

    Raises:
        ModuleNotFoundError: mcap is not installed.
        OSError: The file cannot be written.
    """

    def __init__(self, path: Path, layout: JointLayout | None = None) -> None:
        writer = import_library("mcap.writer", "mcap", "MCAP files")
        self._layout = layout
        self._file = path.open("wb")
        self._writer = writer.Writer(self._file, chunk_size=_CHUNK)
        self._writer.start(profile="", library="poseren_ext")
        self._began = time.time_ns()
        self._hands = self._channel(HANDS_TOPIC, "poseren.Hands", line_schema())
        self._scene = self._channel(SCENE_TOPIC, "foxglove.SceneUpdate", _SCENE_SCHEMA)

    def _channel(self, topic: str, schema: str, content: dict[str, Any]) -> int:
        number = self._writer.register_schema(schema, "jsonschema", json.dumps(content).encode())
        return int(self._writer.register_channel(topic, "json", number))

    def write(self, result: LiveResult) -> None:
        """Adds the result of a frame; its time is the frame's, after the time when the file was opened."""
        stamp = self._began + round(result.time * 1e9)
        scene = json.dumps(scene_update(result, stamp), separators=(",", ":"))
        for channel, text in ((self._hands, result_line(result, self._layout)), (self._scene, scene)):
            self._writer.add_message(channel, log_time=stamp, publish_time=stamp, data=text.encode())

    def __enter__(self) -> McapLog:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self._writer.finish()
        finally:
            self._file.close()


def scene_update(result: LiveResult, stamp: int) -> dict[str, Any]:
    """The hands of a frame as a message foxglove.SceneUpdate, which replaces those of the frame before.

    Args:
        result: of the frame.
        stamp: time, ns.
    """
    moment = {"sec": stamp // 10**9, "nsec": stamp % 10**9}
    entities = [
        {
            "timestamp": moment,
            "frame_id": "camera",
            "id": f"hand {hand.track}",
            "lifetime": {"sec": 0, "nsec": 0},
            "frame_locked": False,
            "metadata": [{"key": "hand", "value": hand.pose.hand[0]}],
            **_shapes((torch.as_tensor(hand.pose.joints) / 1000).tolist(), hand.pose.skeleton),
        }
        for hand in result.hands
    ]
    return {"deletions": [{"timestamp": moment, "type": 1, "id": ""}], "entities": entities}  # type 1: all


def _shapes(joints: Sequence[Sequence[float]], skeleton: Skeleton) -> dict[str, Any]:
    points = [dict(zip("xyz", joint, strict=True)) for joint in joints]
    colors = [{**dict(zip("rgb", _COLORS[finger], strict=True)), "a": 1.0} for finger in skeleton.finger_of]
    ends = [(*bone, min(bone, key=lambda joint: skeleton.finger_of[joint])) for bone in skeleton.bones]
    upright = {"x": 0.0, "y": 0.0, "z": 0.0, "w": 1.0}
    lines = {
        "type": _LINE_LIST,
        "pose": {"position": {"x": 0.0, "y": 0.0, "z": 0.0}, "orientation": upright},
        "thickness": 0.004,
        "scale_invariant": False,
        "points": [points[joint] for first, second, _ in ends for joint in (first, second)],
        "color": colors[0],
        "colors": [colors[own] for _, _, own in ends for _ in range(2)],
        "indices": [],
    }
    size = {"x": 0.01, "y": 0.01, "z": 0.01}
    spheres = [
        {"pose": {"position": point, "orientation": upright}, "size": size, "color": color}
        for point, color in zip(points, colors, strict=True)
    ]
    return {"lines": [lines], "spheres": spheres}
