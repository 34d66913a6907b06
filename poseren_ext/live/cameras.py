# SPDX-License-Identifier: MIT
"""Depth cameras: Intel RealSense through pyrealsense2, first Kinects and Xtions through OpenCV's OpenNI2.

pyrealsense2 is the extra `realsense`. OpenCV reads OpenNI2 devices only if it was built with OpenNI2, which its wheels
are not: build it with WITH_OPENNI2=ON. See `orbbec`, `oak` and `record3d` for other cameras.
"""

from __future__ import annotations

import time

import numpy as np

from poseren_ext._utils.optional_libraries import import_library
from poseren_ext.geometry.camera import Camera
from poseren_ext.live.frames import StreamFrame
from poseren_ext.live.sources import SourceLost

FRAME_TIMEOUT_S = 5.0
"""Seconds without a frame after which a camera counts as unplugged."""
_WAIT_MS = 1000


class RealSenseSource:
    """The depth stream of a RealSense camera (SR300, SR305, D400, L500), which reports its intrinsics and unit.

    Args:
        device: index of the camera in the library's list.
        width: columns of the stream.
        height: rows of the stream.
        rate: frames per second.

    Raises:
        ModuleNotFoundError: pyrealsense2 is not installed.
        SourceLost: The camera does not exist, or does not support this size and rate.
    """

    def __init__(self, device: int = 0, *, width: int = 640, height: int = 480, rate: int = 30) -> None:
        library = import_library("pyrealsense2", "realsense", "RealSense cameras")
        self._pipeline = library.pipeline()
        config = library.config()
        try:
            devices = list(library.context().query_devices())
            if device >= len(devices):
                raise SourceLost(f"RealSense camera {device} is not there: {len(devices)} found; is it plugged in?")
            config.enable_device(devices[device].get_info(library.camera_info.serial_number))
            config.enable_stream(library.stream.depth, width, height, library.format.z16, rate)
            profile = self._pipeline.start(config)
            unit = profile.get_device().first_depth_sensor().get_depth_scale()  # metres
            inner = profile.get_stream(library.stream.depth).as_video_stream_profile().get_intrinsics()
        except RuntimeError as error:
            raise SourceLost(f"RealSense camera {device} cannot be started: {error}") from None
        self.camera: Camera | None = Camera(inner.fx, inner.fy, inner.ppx, inner.ppy, inner.width, inner.height)
        self.depth_unit: float | None = float(f"{1000.0 * unit:.6g}")  # the library computes in float32
        self._open = True

    def read(self) -> StreamFrame | None:
        """The newest frame; see :class:`poseren_ext.live.Source`."""
        until = time.monotonic() + FRAME_TIMEOUT_S
        while True:
            try:
                frame = self._pipeline.wait_for_frames(_WAIT_MS).get_depth_frame()
            except RuntimeError as error:  # a time-out, or the device was unplugged
                if time.monotonic() < until and "disconnected" not in str(error).lower():
                    continue
                raise SourceLost(f"the RealSense camera gives no frame any more ({error}); is it plugged in?") from None
            # Copy, because the library reuses the memory.
            return StreamFrame(np.asanyarray(frame.get_data()).copy(), int(frame.get_frame_number()))

    def close(self) -> None:
        """Stop the stream."""
        if self._open:
            self._open = False
            self._pipeline.stop()


class OpenNISource:
    """The depth stream of an OpenNI2 device (Kinect of 2010, Xtion, first Astras) through OpenCV, in mm.

    OpenNI reports a focal length but no principal point, so the middle of the image is used.

    Args:
        device: index of the camera.

    Raises:
        SourceLost: The camera does not exist, or OpenCV was built without OpenNI2.
    """

    def __init__(self, device: int = 0) -> None:
        import cv2

        self._capture = cv2.VideoCapture(device, cv2.CAP_OPENNI2)
        if not self._capture.isOpened():
            built = "OpenNI2" in cv2.getBuildInformation() and _built_with_openni(cv2.getBuildInformation())
            why = "is it plugged in?" if built else "this OpenCV is built without OpenNI2; build it WITH_OPENNI2=ON"
            raise SourceLost(f"depth camera {device} cannot be opened by OpenCV: {why}")
        focal = float(self._capture.get(cv2.CAP_OPENNI_DEPTH_GENERATOR_FOCAL_LENGTH))
        width, height = (int(self._capture.get(name)) for name in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
        known = focal > 0 and width > 0 and height > 0
        middle = ((width - 1) / 2, (height - 1) / 2)
        self.camera: Camera | None = Camera(focal, focal, *middle, width, height) if known else None
        self.depth_unit: float | None = 1.0
        self._number = 0
        self._map = cv2.CAP_OPENNI_DEPTH_MAP

    def read(self) -> StreamFrame | None:
        """The next frame; see :class:`poseren_ext.live.Source`."""
        until = time.monotonic() + FRAME_TIMEOUT_S
        while True:
            if self._capture.grab():
                whole, depth = self._capture.retrieve(flag=self._map)
                if whole:
                    self._number += 1
                    return StreamFrame(depth, self._number)
            if time.monotonic() >= until:
                raise SourceLost("the depth camera gives no frame any more; is it plugged in?")
            time.sleep(0.02)

    def close(self) -> None:
        """Release the device."""
        self._capture.release()


def _built_with_openni(information: str) -> bool:
    """Whether OpenCV was built with OpenNI2, according to its build information."""
    lines = [line for line in information.splitlines() if "OpenNI2" in line]
    return any("YES" in line for line in lines)
