# SPDX-License-Identifier: MIT
"""Recordings of other software in one file: ROS bags and MCAP, RealSense .bag, Azure Kinect .mkv, Record3D .r3d.

Each reader imports its library when a recording is opened, and knows the camera and the depth unit where the recording
contains them.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections import OrderedDict
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from poseren_ext.io.depth_pictures import DepthFrame, FrameError

if TYPE_CHECKING:
    from poseren_ext.geometry.lens import Lens

SUFFIXES = (".bag", ".mcap", ".db3", ".mkv", ".r3d")

_CACHED = 64  # decoded frames that other threads may still ask for


class Recording(ABC):
    """Depth frames of one file, in order. Safe to use from several threads.

    Args:
        path: the file, named in errors.

    Attributes:
        lens: camera of the frames; None if the recording does not contain it.
        depth_unit: mm per stored unit; None if the recording does not say.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lens: Lens | None = None
        self.depth_unit: float | None = None
        self._lock = threading.Lock()
        self._stream: Iterator[object] = iter(())
        self._next = -1  # nothing is open
        self._passed: OrderedDict[int, object] = OrderedDict()

    @abstractmethod
    def __len__(self) -> int:
        """Number of frames."""

    @abstractmethod
    def stored_frames(self, start: int) -> Iterator[object]:
        """The stored form of every frame from number `start` on; cheap to skip."""

    @abstractmethod
    def decode(self, stored: object) -> DepthFrame:
        """The depth of a stored frame.

        Raises:
            FrameError: The frame cannot be read.
        """

    def read(self, index: int) -> DepthFrame:
        """A frame by its number; fast in order, and nearly in order.

        Raises:
            FrameError: There is no such frame, or it cannot be read.
        """
        if not 0 <= index < len(self):
            raise FrameError(f"{self.path}: there is no frame {index}; it holds 0..{len(self) - 1}")
        with self._lock:
            stored = self._stored(index)
        return self.decode(stored)

    def _stored(self, index: int) -> object:
        if index in self._passed:
            return self._passed.pop(index)
        if index < self._next or self._next < 0:
            self._stream, self._next = self.stored_frames(index), index
        try:
            while True:
                stored = next(self._stream)
                self._next += 1
                if self._next > index:
                    return stored
                self._passed[self._next - 1] = stored
                if len(self._passed) > _CACHED:
                    self._passed.popitem(last=False)
        except FrameError:
            self._next = -1
            raise
        except StopIteration:
            self._next = -1
            raise FrameError(f"{self.path}: frame {index} is missing: the recording is truncated") from None
        except Exception as error:  # what the libraries raise for damaged files is not documented
            self._next = -1
            raise FrameError(f"{self.path}: frame {index} cannot be read ({_line(error)})") from None


def is_recording(path: Path) -> bool:
    """Whether a path is a recording by its name: a file, or the folder of a ROS 2 bag."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() and any(file.suffix in (".mcap", ".db3") for file in path.iterdir())
    return path.suffix.lower() in SUFFIXES


def open_recording(path: Path) -> Recording:
    """A recording; the last ones stay open, so that a frame can be read by its path and number.

    Raises:
        FileNotFoundError: There is no such file.
        ModuleNotFoundError: The library that reads it is not installed.
        FrameError: The file is damaged, or has no depth frames.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    status = path.stat()
    with _OPENING:
        return _opened(path, status.st_mtime_ns, status.st_size)


_OPENING = threading.Lock()


@lru_cache(maxsize=4)
def _opened(path: Path, modified: int, size: int) -> Recording:
    suffix = path.suffix.lower()
    recording: Recording
    try:
        if suffix == ".mkv":
            from poseren_ext.io.matroska_recordings import MatroskaRecording

            recording = MatroskaRecording(path)
        elif suffix == ".r3d":
            from poseren_ext.io.record3d_recordings import Record3DRecording

            recording = Record3DRecording(path)
        else:
            from poseren_ext.io.ros_recordings import RosRecording

            recording = RosRecording(path)
        frames = len(recording)
    except (FrameError, ModuleNotFoundError):
        raise
    except Exception as error:
        raise FrameError(f"{path}: not a readable recording ({_line(error)})") from None
    if frames == 0:
        raise FrameError(f"{path}: a recording without depth frames")
    return recording


def require_frame(path: Path, depth: DepthFrame) -> DepthFrame:
    """A decoded frame that owns its memory, in the byte order of the machine.

    Raises:
        FrameError: The array is not a depth frame.
    """
    if depth.ndim != 2 or depth.size == 0 or depth.dtype.newbyteorder("=") not in (np.uint16, np.float32):
        raise FrameError(f"{path}: {depth.dtype} {list(depth.shape)}; expected [H, W] of uint16 or float32")
    return np.array(depth, dtype=depth.dtype.newbyteorder("="), order="C")


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
