# SPDX-License-Identifier: MIT
"""Depth images of ROS 1 bags, ROS 2 bags, MCAP files and RealSense .bag files, through rosbags (extra ``ros``).

RealSense's SDK writes ROS 1 bags whose topics are named ``/device_0/sensor_0/Depth_0/...``, so no SDK is needed.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

import numpy as np

from poseren_ext._utils.optional_libraries import import_library
from poseren_ext.geometry.camera import Camera
from poseren_ext.geometry.lens import Lens, make_lens
from poseren_ext.io.depth_pictures import DepthFrame, FrameError, decode_picture, require_sane
from poseren_ext.io.recordings import Recording, require_frame

_IMAGE, _COMPRESSED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"
_CAMERA_INFO, _NUMBER = "sensor_msgs/msg/CameraInfo", "std_msgs/msg/Float32"
_UNITS = {"16UC1": 1.0, "mono16": 1.0, "32FC1": 1000.0}
"""mm per stored unit of each encoding of depth images (ROS REP 118)."""


class RosRecording(Recording):
    """The depth images of one topic.

    The topic is the one with raw depth images whose name contains "depth"; topics that were aligned to colour are used
    only if there is no other. The camera is that of the camera_info topic beside it.

    Args:
        path: a .bag, .mcap or .db3 file, or the folder of a ROS 2 bag.

    Attributes:
        topic: the topic.

    Raises:
        ModuleNotFoundError: rosbags is not installed.
        FrameError: There is no depth topic, or there are several.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        user = "ROS bags, MCAP and RealSense .bag files"
        highlevel = import_library("rosbags.highlevel", "ros", user)
        typesys = import_library("rosbags.typesys", "ros", user)
        # The standard types serve ROS 2 bags that do not contain the definitions of their messages.
        store = typesys.get_typestore(typesys.Stores.ROS2_HUMBLE)
        self._reader: Any = highlevel.AnyReader([path], default_typestore=store)
        self._reader.open()
        self._connection = self._depth_connection()
        self.topic: str = self._connection.topic
        self._times: list[int] = []
        first = self._first(self._connection)
        self._compressed = self._connection.msgtype == _COMPRESSED
        self.depth_unit = self._realsense_unit() or _UNITS[_encoding(first)]
        self.lens = self._find_lens(self._shape(first))

    def __len__(self) -> int:
        return int(self._connection.msgcount)

    def stored_frames(self, start: int) -> Iterator[object]:
        """The raw messages from number `start` on."""
        # Messages that were seen before are found by their time, which is unique if times increase.
        known = start if start < len(self._times) and len(set(self._times)) == len(self._times) else 0
        begin = self._times[known] if known else None
        for number, (_, time, data) in enumerate(self._reader.messages([self._connection], start=begin), start=known):
            if number == len(self._times):
                self._times.append(time)
            if number >= start:
                yield data

    def decode(self, stored: object) -> DepthFrame:
        """The depth of a raw message."""
        try:
            message = self._reader.deserialize(stored, self._connection.msgtype)
        except Exception as error:
            raise FrameError(f"{self.path}: a damaged message ({error})") from None
        return require_frame(self.path, self._depth(message))

    def _depth(self, message: Any) -> DepthFrame:
        if self._compressed:
            return _decompress(self.path, message)
        height, width, step = int(message.height), int(message.width), int(message.step)
        require_sane(self.path, height, width)
        kind = np.dtype(np.float32 if message.encoding == "32FC1" else np.uint16)
        data = np.asarray(message.data, np.uint8)
        if message.encoding not in _UNITS or step < width * kind.itemsize or len(data) < height * step:
            raise FrameError(
                f"{self.path}: an image {width}x{height} of encoding {message.encoding!r} in {len(data)} bytes; "
                f"expected depth: {', '.join(_UNITS)}"
            )
        rows = data[: height * step].reshape(height, step)[:, : width * kind.itemsize]
        depth: DepthFrame = np.ascontiguousarray(rows).view(kind.newbyteorder(">" if message.is_bigendian else "<"))
        return depth

    def _depth_connection(self) -> Any:
        images = [c for c in self._reader.connections if c.msgtype in (_IMAGE, _COMPRESSED) and c.msgcount]
        depth = [c for c in images if _encoding(self._first(c)) in _UNITS and not _is_infrared(c.topic)]
        if not depth:
            held = ", ".join(sorted({f"{c.topic} ({c.msgtype})" for c in self._reader.connections})) or "nothing"
            raise FrameError(
                f"{self.path}: no topic of depth images ({', '.join(_UNITS)}); it holds {held}. Recordings of Orbbec's "
                "software are read by `poseren live --source orbbec FILE`"
            )
        for preferred in (
            lambda c: "depth" in c.topic.lower(),
            lambda c: "aligned" not in c.topic.lower(),
            lambda c: c.msgtype == _IMAGE,
        ):
            depth = [c for c in depth if preferred(c)] or depth
        if len({c.topic for c in depth}) > 1:
            topics = ", ".join(c.topic for c in depth)
            raise FrameError(
                f"{self.path}: several topics of depth images: {topics}; copy the one to use into a new bag"
            )
        return depth[0]

    def _first(self, connection: Any) -> Any:
        _, _, data = next(iter(self._reader.messages([connection])))
        return self._reader.deserialize(data, connection.msgtype)

    def _shape(self, message: Any) -> tuple[int, ...]:
        return self._depth(message).shape

    def _realsense_unit(self) -> float | None:
        for connection in self._reader.connections:
            name = connection.topic.lower().replace(" ", "_")
            if connection.msgtype == _NUMBER and name.endswith("depth_units/value") and connection.msgcount:
                return float(f"{1000.0 * float(self._first(connection).data):.6g}")  # stored as float32
        return None

    def _find_lens(self, shape: tuple[int, ...]) -> Lens | None:
        """The camera_info with the longest part of its name in common, of the frames' size."""
        infos = [c for c in self._reader.connections if c.msgtype == _CAMERA_INFO and c.msgcount]
        parts = self.topic.split("/")

        def shared(connection: Any) -> int:
            pairs = zip(parts, connection.topic.split("/"), strict=False)
            return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], pairs))

        for connection in sorted(infos, key=shared, reverse=True):
            message = self._first(connection)
            if (int(message.height), int(message.width)) == shape[:2]:
                return _lens(message, rectified="rect" in self.topic)
        return None


def _is_infrared(topic: str) -> bool:
    name = topic.lower()
    return any(part.startswith(("infra", "ir", "amplitude", "confidence")) for part in name.split("/"))


def _encoding(message: Any) -> str:
    """The encoding of an image; of a compressed one the part of its format before the semicolon."""
    return str(message.encoding) if hasattr(message, "encoding") else str(message.format).partition(";")[0].strip()


def _lens(message: Any, *, rectified: bool) -> Lens:
    """The camera of a camera_info: of the raw image, or (image_rect) of the rectified one, which has no distortion."""

    def numbers(name: str) -> Sequence[float]:  # upper case in ROS 1
        values: Any = getattr(message, name, None)
        return [float(value) for value in (getattr(message, name.upper()) if values is None else values)]

    size = int(message.width), int(message.height)
    k, p = numbers("k"), numbers("p")
    if rectified and p[0] > 0:
        return Lens(Camera(p[0], p[5], p[2], p[6], *size))
    return make_lens(Camera(k[0], k[4], k[2], k[5], *size), numbers("d"), str(message.distortion_model))


def _decompress(path: Path, message: Any) -> DepthFrame:
    """The depth of a compressed image: PNG, after 12 bytes of parameters in ROS's compressedDepth."""
    kind, data = str(message.format), bytes(np.asarray(message.data, np.uint8))
    if "compressedDepth" not in kind:
        return decode_picture(path, data)
    if "rvl" in kind.lower():
        raise FrameError(f"{path}: depth images compressed by RVL; expected PNG: record the raw topic")
    depth = decode_picture(path, data[12:])
    if not kind.startswith("32FC1"):
        return depth
    _, scale, offset = struct.unpack("<iff", data[:12])  # inverse depth, quantised
    with np.errstate(divide="ignore"):
        metres = np.float32(scale) / (depth.astype(np.float32) - np.float32(offset))
    result: DepthFrame = np.where(depth > 0, metres, np.float32(0)).astype(np.float32)
    return result
