# SPDX-License-Identifier: MIT
"""Frame sources: cameras and recordings with one common protocol."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from poseren_ext.datasets.folder import CAMERA, RECORDING, read_settings
from poseren_ext.geometry.camera import Camera
from poseren_ext.io.depth_files import FrameError, FrameFile, find_frames
from poseren_ext.live.frames import StreamFrame

SOURCES = ("realsense", "kinect", "folder", "npz")


class SourceLost(OSError):  # noqa: N818  the camera is what is lost
    """The camera cannot be opened, or delivers no more frames."""


class Source(Protocol):
    """A stream of depth frames.

    Attributes:
        camera: intrinsics of the frames; None if the source does not know them.
        depth_unit: mm per stored unit; None if the source does not know it.
    """

    camera: Camera | None
    depth_unit: float | None

    def read(self) -> StreamFrame | None:
        """The next frame; None at the end of a recording.

        Raises:
            SourceLost: The camera was disconnected.
        """

    def close(self) -> None:
        """Release the camera. A second call does nothing."""


class RecordingSource:
    """Recorded frames from folders, images, and .npy and .npz files.

    A recording of `poseren live --record` contains its camera and unit.

    Args:
        paths: files and folders.
        rate: playback rate, frames per second; None means unlimited.
        loop: restart at the end.

    Raises:
        FileNotFoundError: A file or folder does not exist, or a folder contains no frames.
        FrameError: A numpy file contains no frames.
        ValueError: rate is not positive, or recording.json is damaged.
    """

    def __init__(self, paths: Sequence[Path | str], *, rate: float | None = None, loop: bool = False) -> None:
        if rate is not None and not rate > 0:
            raise ValueError(f"rate is {rate}; expected a positive number of frames per second")
        self.files = find_frames(paths)
        self.camera, self.depth_unit = _recorded_settings(Path(paths[0]))
        self._rate, self._loop = rate, loop
        self._next, self._began = 0, 0.0

    def read(self) -> StreamFrame | None:
        """The next frame; see :class:`Source`."""
        number = self._next
        if number >= len(self.files) and not self._loop:
            return None
        self._next += 1
        file: FrameFile = self.files[number % len(self.files)]
        depth, fault = None, ""
        try:
            depth = file.read()
        except (FrameError, OSError) as error:  # the next frame may be readable
            fault = str(error)
        if self._rate is not None:
            self._began = self._began or time.perf_counter() - number / self._rate
            time.sleep(max(0.0, self._began + number / self._rate - time.perf_counter()))
        return StreamFrame(depth, number, name=str(file), fault=fault)

    def close(self) -> None:
        """Does nothing: a recording holds no device."""


def _recorded_settings(path: Path) -> tuple[Camera | None, float | None]:
    return read_settings(path) if (path / RECORDING).is_file() or (path / CAMERA).is_file() else (None, None)


def open_source(
    kind: str, paths: Sequence[Path | str] = (), *, rate: float | None = None, loop: bool = False, device: int = 0
) -> Source:
    """Open a source by its name.

    Args:
        kind: "realsense" (pyrealsense2), "kinect" (OpenCV's OpenNI2 devices), "folder" or "npz" (recordings).
        paths: files and folders of a recording.
        rate: playback rate of a recording; see :class:`RecordingSource`.
        loop: restart a recording at its end.
        device: index of the camera.

    Raises:
        ValueError: kind is unknown, or a recording has no path.
        ModuleNotFoundError: The library of the camera is not installed.
        SourceLost: The camera does not exist.
        FileNotFoundError: The recording does not exist.
    """
    if kind not in SOURCES:
        raise ValueError(f"source is {kind!r}; expected one of {', '.join(SOURCES)}")
    if kind in ("folder", "npz"):
        if not paths:
            raise ValueError(f"source {kind} needs a path: where the recorded frames are")
        return RecordingSource(paths, rate=rate, loop=loop)
    if paths:
        raise ValueError(f"source {kind} is a camera; paths ({paths[0]}) go with --source folder or npz")
    from poseren_ext.live.cameras import OpenNISource, RealSenseSource

    return RealSenseSource(device) if kind == "realsense" else OpenNISource(device)
