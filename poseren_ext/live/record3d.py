# SPDX-License-Identifier: MIT
"""iPhones and iPads with the Record3D app, which stream depth over USB, through record3d (extra `record3d`)."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np

from poseren_ext._utils.optional_libraries import import_library
from poseren_ext.geometry.camera import Camera
from poseren_ext.live import cameras
from poseren_ext.live.frames import StreamFrame
from poseren_ext.live.sources import SourceLost


class Record3DSource:
    """The depth stream of an iPhone or iPad in metres. Start "USB Streaming" in the app first.

    Args:
        device: index of the phone in the library's list.

    Raises:
        ModuleNotFoundError: record3d is not installed.
        SourceLost: The phone does not exist, or does not stream.
    """

    def __init__(self, device: int = 0) -> None:
        library = import_library("record3d", "record3d", "iPhones and iPads")
        self._name = f"Record3D device {device}"
        found = library.Record3DStream.get_connected_devices()
        if device >= len(found):
            raise SourceLost(f"{self._name} is not there: {len(found)} found; is it plugged in, and the app streaming?")
        self._stream = library.Record3DStream()
        self._arrived, self._stopped = threading.Event(), threading.Event()
        self._number = self._shown = 0
        self._stream.on_new_frame = self._count
        self._stream.on_stream_stopped = self._stop
        if not self._stream.connect(found[device]):
            raise SourceLost(f"{self._name} does not stream; start USB Streaming in the Record3D app")
        self._open = True
        depth = self._wait()
        inner = self._stream.get_intrinsic_mat()  # of the colour image
        rows, columns = self._stream.get_rgb_frame().shape[:2]
        across, down = depth.shape[1] / columns, depth.shape[0] / rows
        cx, cy = (inner.tx + 0.5) * across - 0.5, (inner.ty + 0.5) * down - 0.5
        self.camera: Camera | None = Camera(inner.fx * across, inner.fy * down, cx, cy, depth.shape[1], depth.shape[0])
        self.depth_unit: float | None = 1000.0
        self._waiting: Any = depth

    def read(self) -> StreamFrame | None:
        """The newest frame; see :class:`poseren_ext.live.Source`."""
        depth, self._waiting = (self._wait() if self._waiting is None else self._waiting), None
        return StreamFrame(depth, self._shown)

    def close(self) -> None:
        """End the connection."""
        if self._open:
            self._open = False
            self._stream.disconnect()

    def _wait(self) -> Any:
        if not self._arrived.wait(cameras.FRAME_TIMEOUT_S) or self._stopped.is_set():
            raise SourceLost(f"{self._name} gives no frame any more; is it plugged in, and the app streaming?")
        self._arrived.clear()
        self._shown = self._number  # now, because the next frame may arrive while this one is copied
        return np.array(self._stream.get_depth_frame(), np.float32)  # a copy: the library reuses it

    def _count(self) -> None:
        self._number += 1
        self._arrived.set()

    def _stop(self) -> None:
        self._stopped.set()
        self._arrived.set()
