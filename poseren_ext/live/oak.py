# SPDX-License-Identifier: MIT
"""Luxonis OAK-D cameras through depthai 3 (extra `oak`)."""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

from poseren_ext._utils.optional_libraries import import_library
from poseren_ext.geometry.camera import Camera
from poseren_ext.live import cameras
from poseren_ext.live.frames import StreamFrame
from poseren_ext.live.sources import SourceLost


class OakSource:
    """Stereo depth of an OAK-D camera in mm, computed on the camera, in the rectified image.

    The extended disparity range is used, so that hands may be as near as 20 cm at 640x400.

    Args:
        device: index of the camera in the library's list.
        width: columns of the stereo images.
        height: rows of the stereo images.
        rate: frames per second.

    Raises:
        ModuleNotFoundError: depthai is not installed.
        SourceLost: The camera does not exist, or cannot be started.
    """

    def __init__(self, device: int = 0, *, width: int = 640, height: int = 400, rate: float = 30.0) -> None:
        library = import_library("depthai", "oak", "OAK-D cameras")
        self._name = f"OAK camera {device}"
        try:
            found = library.Device.getAllAvailableDevices()
            if device >= len(found):
                raise SourceLost(f"{self._name} is not there: {len(found)} found; is it plugged in?")
            self._pipeline = library.Pipeline(library.Device(found[device]))
            stereo = self._pipeline.create(library.node.StereoDepth)
            stereo.setRectification(True)
            stereo.setLeftRightCheck(True)
            stereo.setExtendedDisparity(True)
            sockets = library.CameraBoardSocket
            for socket, place in ((sockets.CAM_B, stereo.left), (sockets.CAM_C, stereo.right)):
                eye = self._pipeline.create(library.node.Camera).build(socket)
                eye.requestOutput((width, height), fps=rate).link(place)
            self._queue = stereo.depth.createOutputQueue(maxSize=1, blocking=False)
            self._pipeline.start()
        except SourceLost:
            raise
        except Exception as error:  # the bindings raise RuntimeError and types of their own
            raise SourceLost(f"{self._name} cannot be started: {error}") from None
        self._open = True
        self._waiting = self._wait()
        matrix = np.asarray(self._waiting.getTransformation().getIntrinsicMatrix(), np.float64)
        fx, fy, cx, cy = matrix[[0, 1, 0, 1], [0, 1, 2, 2]].tolist()
        self.camera: Camera | None = Camera(fx, fy, cx, cy, *reversed(self._waiting.getFrame().shape))
        self.depth_unit: float | None = 1.0

    def read(self) -> StreamFrame | None:
        """The newest frame; see :class:`poseren_ext.live.Source`."""
        frame, self._waiting = self._waiting or self._wait(), None
        return StreamFrame(np.asarray(frame.getFrame()).copy(), int(frame.getSequenceNum()))

    def close(self) -> None:
        """Stop the stream."""
        if self._open:
            self._open = False
            self._pipeline.stop()

    def _wait(self) -> Any:
        try:
            frame = self._queue.get(datetime.timedelta(seconds=cameras.FRAME_TIMEOUT_S))
        except Exception as error:
            raise SourceLost(f"{self._name} gives no frame any more ({error}); is it plugged in?") from None
        if frame is None:
            raise SourceLost(f"{self._name} gives no frame any more; is it plugged in?")
        return frame
