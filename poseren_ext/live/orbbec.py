# SPDX-License-Identifier: MIT
"""Orbbec cameras (Femto, Gemini, Astra 2) and recordings of their software, through pyorbbecsdk2 (extra `orbbec`)."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np

from poseren_ext._utils.optional_libraries import import_library
from poseren_ext.geometry.camera import Camera
from poseren_ext.geometry.lens import Lens, make_lens
from poseren_ext.live import cameras
from poseren_ext.live.frames import StreamFrame
from poseren_ext.live.sources import SourceLost

_WAIT_MS = 1000
_COEFFICIENTS = ("k1", "k2", "p1", "p2", "k3", "k4", "k5", "k6")


class OrbbecSource:
    """The depth stream of an Orbbec camera, in its default profile, undistorted by the camera's own coefficients.

    Args:
        device: index of the camera in the library's list.
        recording: play a .bag file of Orbbec's software instead.

    Raises:
        ModuleNotFoundError: pyorbbecsdk2 is not installed.
        SourceLost: The camera does not exist, or gives no frames; the recording cannot be played.
    """

    def __init__(self, device: int = 0, *, recording: Path | None = None) -> None:
        library = import_library("pyorbbecsdk", "orbbec", "Orbbec cameras")
        self._name = f"Orbbec camera {device}" if recording is None else str(recording)
        self._stopped = library.OBPlaybackStatus.STOPPED
        self._playback: Any = None
        try:
            if recording is not None:
                opened = self._playback = library.PlaybackDevice(str(recording))
            else:
                devices = library.Context().query_devices()
                if device >= devices.get_count():
                    raise SourceLost(f"{self._name} is not there: {devices.get_count()} found; is it plugged in?")
                opened = devices.get_device_by_index(device)
            self._pipeline = library.Pipeline(opened)
            profiles = self._pipeline.get_stream_profile_list(library.OBSensorType.DEPTH_SENSOR)
            profile = profiles.get_default_video_stream_profile()
            config = library.Config()
            config.enable_stream(profile)
            self._pipeline.start(config)
            self._lens = _lens(profile)
        except SourceLost:
            raise
        except Exception as error:  # OBError and RuntimeError
            raise SourceLost(f"{self._name} cannot be started: {error}") from None
        self._open = True
        self.camera: Camera | None = self._lens.camera
        self._waiting = self._wait()
        if self._waiting is None:
            raise SourceLost(f"{self._name} has no depth frames")
        self.depth_unit: float | None = float(f"{float(self._waiting.get_depth_scale()):.6g}")

    def read(self) -> StreamFrame | None:
        """The next frame; see :class:`poseren_ext.live.Source`."""
        frame, self._waiting = self._waiting or self._wait(), None
        if frame is None:
            return None
        height, width = int(frame.get_height()), int(frame.get_width())
        data = np.frombuffer(np.asarray(frame.get_data()).tobytes(), np.uint16)  # a copy: the library reuses it
        if data.size != height * width:
            return StreamFrame(None, int(frame.get_index()), fault=f"{data.size} values for {width}x{height} pixels")
        try:
            return StreamFrame(self._lens.undistort(data.reshape(height, width)), int(frame.get_index()))
        except ValueError as error:
            return StreamFrame(None, int(frame.get_index()), fault=str(error))

    def close(self) -> None:
        """Stop the stream."""
        if self._open:
            self._open = False
            self._pipeline.stop()

    def _wait(self) -> Any:
        """The next depth frame; None at the end of a recording."""
        until = time.monotonic() + cameras.FRAME_TIMEOUT_S
        while True:
            try:
                frames = self._pipeline.wait_for_frames(_WAIT_MS)
            except Exception as error:
                raise SourceLost(f"{self._name} gives no frame any more ({error}); is it plugged in?") from None
            depth = None if frames is None else frames.get_depth_frame()
            if depth is not None:
                return depth
            if self._playback is not None and self._playback.get_playback_status() == self._stopped:
                return None
            if time.monotonic() >= until:
                raise SourceLost(f"{self._name} gives no frame any more; is it plugged in?")


def _lens(profile: Any) -> Lens:
    """The camera of a stream profile."""
    inner, bent = profile.get_intrinsic(), profile.get_distortion()
    camera = Camera(inner.fx, inner.fy, inner.cx, inner.cy, int(inner.width), int(inner.height))
    model = str(bent.model).rpartition(".")[2].lower()
    return make_lens(camera, [float(getattr(bent, name)) for name in _COEFFICIENTS], model)
