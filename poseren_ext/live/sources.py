# SPDX-License-Identifier: MIT
"""Frame sources: cameras and recordings with one common protocol."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol, cast

import numpy as np

from poseren_ext.datasets.folder import POSES, has_settings, read_settings
from poseren_ext.geometry.camera import Camera
from poseren_ext.geometry.lens import Lens
from poseren_ext.io.depth_files import FrameError, FrameFile, find_frames, seen_through
from poseren_ext.io.recordings import is_recording, open_recording
from poseren_ext.live.frames import StreamFrame

SOURCES = ("realsense", "orbbec", "oak", "record3d", "kinect", "folder", "npz")

RATE = 30.0
"""Frames per second of a recording without times."""


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
    """Recorded frames from folders, images, .npy and .npz files, ROS bags, MCAP, .mkv and .r3d files.

    Recordings of `poseren live --record`, and most of other software, contain their camera and unit. Those of
    `poseren live --record` contain the times of their frames; others count `rate` or 30 frames per second.

    Args:
        paths: files and folders.
        rate: playback rate, frames per second; None means unlimited.
        loop: restart at the end.
        lens: camera of the frames, whose distortion is corrected; default: as recorded.

    Raises:
        FileNotFoundError: A file or folder does not exist, or a folder contains no frames.
        FrameError: A numpy file contains no frames.
        ValueError: rate is not positive, or recording.json is damaged.
    """

    def __init__(
        self,
        paths: Sequence[Path | str],
        *,
        rate: float | None = None,
        loop: bool = False,
        lens: Lens | None = None,
    ) -> None:
        if rate is not None and not rate > 0:
            raise ValueError(f"rate is {rate}; expected a positive number of frames per second")
        recorded, self.depth_unit = _recorded_settings(Path(paths[0]))
        lens = recorded if lens is None else lens
        self.camera = None if lens is None else lens.camera
        self.files = find_frames(paths) if lens is None else seen_through(find_frames(paths), lens)
        self._times = _recorded_times(self.files) or [i / (rate or RATE) for i in range(len(self.files))]
        self._rate, self._loop = rate, loop
        self._next, self._began = 0, 0.0

    def read(self) -> StreamFrame | None:
        """The next frame; see :class:`Source`."""
        number = self._next
        if number >= len(self.files) and not self._loop:
            return None
        self._next += 1
        lap, index = divmod(number, len(self.files))
        file: FrameFile = self.files[index]
        depth, fault = None, ""
        try:
            depth = file.read()
        except (FrameError, OSError) as error:  # the next frame may be readable
            fault = str(error)
        if self._rate is not None:
            self._began = self._began or time.perf_counter() - number / self._rate
            time.sleep(max(0.0, self._began + number / self._rate - time.perf_counter()))
        time_of_lap = self._times[-1] - self._times[0] + 1 / RATE
        return StreamFrame(depth, number, time=self._times[index] + lap * time_of_lap, name=str(file), fault=fault)

    def close(self) -> None:
        """Does nothing: a recording holds no device."""


def _recorded_times(files: Sequence[FrameFile]) -> list[float] | None:
    """Times of the frames of a recording of `poseren live`, seconds; None for other files."""
    path = files[0].path.parent / POSES
    if not path.is_file():
        return None
    times = {}
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            entry = json.loads(line)
            times[entry["file"]] = float(entry["time"])
        except (ValueError, TypeError, KeyError):  # a skipped frame
            continue
    found = [times.get(file.path.name) for file in files]
    return None if None in found else cast("list[float]", found)


def _recorded_settings(path: Path) -> tuple[Lens | None, float | None]:
    if is_recording(path):
        recording = open_recording(path)
        return recording.lens, recording.depth_unit
    return read_settings(path) if has_settings(path) else (None, None)


class UndistortedSource:
    """Another source, its frames undistorted.

    Args:
        source: a camera.
        lens: its camera and the distortion of the lens.
    """

    def __init__(self, source: Source, lens: Lens) -> None:
        self.camera: Camera | None = lens.camera
        self.depth_unit = source.depth_unit
        self._source, self._lens = source, lens

    def read(self) -> StreamFrame | None:
        """The next frame; see :class:`Source`. A frame of another size than the camera's is marked as a fault."""
        frame = self._source.read()
        if frame is None or frame.depth is None:
            return frame
        try:
            return replace(frame, depth=self._lens.undistort(np.asarray(frame.depth)))
        except ValueError as error:
            return replace(frame, depth=None, fault=str(error))

    def close(self) -> None:
        """Release the camera. A second call does nothing."""
        self._source.close()


def open_source(
    kind: str,
    paths: Sequence[Path | str] = (),
    *,
    rate: float | None = None,
    loop: bool = False,
    device: int = 0,
    lens: Lens | None = None,
) -> Source:
    """Open a source by its name.

    Args:
        kind: "realsense" (pyrealsense2), "orbbec" (pyorbbecsdk2), "oak" (depthai), "record3d" (iPhones, iPads),
            "kinect" (OpenCV's OpenNI2 devices), "folder" or "npz" (recordings: folders and files).
        paths: files and folders of a recording; for "orbbec" at most one recording of Orbbec's software.
        rate: playback rate of a recording; see :class:`RecordingSource`.
        loop: restart a recording at its end.
        device: index of the camera.
        lens: intrinsics and distortion to use instead of those that the source reports.

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
        return RecordingSource(paths, rate=rate, loop=loop, lens=lens)
    if paths and (kind != "orbbec" or len(paths) > 1):
        raise ValueError(f"source {kind} is a camera; paths ({paths[0]}) go with --source folder or npz")
    source = _open_camera(kind, device, Path(paths[0]) if paths else None)
    return source if lens is None else UndistortedSource(source, lens)


def _open_camera(kind: str, device: int, recording: Path | None) -> Source:
    if kind == "realsense":
        from poseren_ext.live.cameras import RealSenseSource

        return RealSenseSource(device)
    if kind == "orbbec":
        from poseren_ext.live.orbbec import OrbbecSource

        return OrbbecSource(device, recording=recording)
    if kind == "oak":
        from poseren_ext.live.oak import OakSource

        return OakSource(device)
    if kind == "record3d":
        from poseren_ext.live.record3d import Record3DSource

        return Record3DSource(device)
    from poseren_ext.live.cameras import OpenNISource

    return OpenNISource(device)
