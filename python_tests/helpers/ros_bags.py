# SPDX-License-Identifier: MIT
"""ROS bags that rosbags' own writers write."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer as Writer2
from rosbags.typesys import Stores, get_typestore

ROS_1, ROS_2 = get_typestore(Stores.ROS1_NOETIC), get_typestore(Stores.ROS2_HUMBLE)


class Messages:
    """Messages of one of the two systems.

    Args:
        ros: 1 or 2.
    """

    def __init__(self, ros: int) -> None:
        self.ros = ros
        self.store: Any = ROS_1 if ros == 1 else ROS_2

    def _type(self, name: str) -> Any:
        return self.store.types[name]

    def header(self) -> Any:
        """A header."""
        stamp = self._type("builtin_interfaces/msg/Time")(0, 0)
        first = {"seq": 0} if self.ros == 1 else {}
        return self._type("std_msgs/msg/Header")(**first, stamp=stamp, frame_id="depth")

    def image(self, depth: npt.NDArray[Any], encoding: str, padding: int = 0, big: bool = False) -> Any:
        """A raw image, each row followed by unused bytes."""
        order = ">" if big else "<"
        rows = (
            np.ascontiguousarray(depth.astype(depth.dtype.newbyteorder(order))).view(np.uint8).reshape(len(depth), -1)
        )
        rows = np.pad(rows, ((0, 0), (0, padding)), constant_values=255)
        return self._type("sensor_msgs/msg/Image")(
            self.header(), *depth.shape, encoding, int(big), rows.shape[1], rows.reshape(-1)
        )

    def compressed(self, data: bytes, form: str) -> Any:
        """A compressed image."""
        return self._type("sensor_msgs/msg/CompressedImage")(self.header(), form, np.frombuffer(data, np.uint8))

    def camera_info(
        self, shape: Sequence[int], k: Sequence[float], d: Sequence[float] = (), p: Sequence[float] | None = None
    ) -> Any:
        """A camera_info."""
        p = [k[0], 0, k[2], 0, 0, k[4], k[5], 0, 0, 0, 1, 0] if p is None else p
        roi = self._type("sensor_msgs/msg/RegionOfInterest")(0, 0, 0, 0, False)
        matrices = [np.array(values, np.float64) for values in (d, k, np.eye(3).reshape(-1), p)]
        return self._type("sensor_msgs/msg/CameraInfo")(
            self.header(), int(shape[0]), int(shape[1]), "plumb_bob", *matrices, 0, 0, roi
        )

    def number(self, value: float) -> Any:
        """A number."""
        return self._type("std_msgs/msg/Float32")(value)


def write_bag(path: Path, messages: Messages, topics: dict[str, Sequence[Any]], storage: str = "MCAP") -> Path:
    """Write topics with their messages, 33 ms apart; the path of the file (ROS 1) or folder (ROS 2)."""
    if messages.ros == 1:
        writer: Any = Writer1(path)
        serialize = messages.store.serialize_ros1
    else:
        writer = Writer2(path, version=9, storage_plugin=StoragePlugin[storage])
        serialize = messages.store.serialize_cdr
    with writer:
        for topic, values in topics.items():
            kind = values[0].__msgtype__
            connection = writer.add_connection(topic, kind, typestore=messages.store)
            for number, value in enumerate(values):
                writer.write(connection, 33_000_000 * number, serialize(value, kind))
    return path
