# SPDX-License-Identifier: MIT
"""Depth tracks of Matroska files, through PyAV (extra ``video``): Azure Kinect and Open3D recordings, 16-bit video.

The format of Azure Kinect recordings is documented by Microsoft ("Azure Kinect DK recording file format"): a track
DEPTH of big-endian 16-bit grey in mm, and the factory calibration as an attachment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from poseren_ext._utils.optional_libraries import import_library
from poseren_ext.geometry.camera import Camera
from poseren_ext.geometry.lens import Lens, make_lens
from poseren_ext.io.depth_pictures import DepthFrame, FrameError, require_sane
from poseren_ext.io.recordings import Recording, require_frame

_GREY = ("gray16le", "gray16be")
_DEPTH_CAMERA = "CALIBRATION_CameraLocationD0"
_MODES = {
    "NFOV_2X2BINNED": (512, (96, 90), (320, 288)),
    "NFOV_UNBINNED": (1024, (192, 180), (640, 576)),
    "WFOV_2X2BINNED": (512, (0, 0), (512, 512)),
    "WFOV_UNBINNED": (1024, (0, 0), (1024, 1024)),
}
"""Depth modes of the Azure Kinect: edge of the sensor image in pixels, corner of the crop, and size of the frames."""


class MatroskaRecording(Recording):
    """The depth track of a Matroska file: the track called DEPTH, or the only one of 16-bit grey.

    Args:
        path: the file.

    Raises:
        ModuleNotFoundError: PyAV is not installed.
        FrameError: The file has no depth track, or several.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._library = import_library("av", "video", ".mkv recordings")
        with self._library.open(str(path)) as container:
            stream = self._track(container)
            self._index = int(stream.index)
            size = (int(stream.width), int(stream.height))
            require_sane(path, size[1], size[0])
            self._frames = sum(1 for packet in container.demux(stream) if packet.size > 0)
            tags = {name.upper(): value for name, value in container.metadata.items()}
            calibration = _attachment(container)
        if "K4A_DEPTH_MODE" in tags:
            self.depth_unit = 1.0
            if calibration is not None:
                self.lens = azure_kinect_lens(calibration, tags["K4A_DEPTH_MODE"], size)

    def __len__(self) -> int:
        return self._frames

    def stored_frames(self, start: int) -> Iterator[object]:
        """The decoded video frames from number `start` on."""
        with self._library.open(str(self.path)) as container:
            for number, frame in enumerate(container.decode(container.streams[self._index])):
                if number >= start:
                    yield frame

    def decode(self, stored: Any) -> DepthFrame:
        """The depth of a video frame."""
        return require_frame(self.path, stored.to_ndarray())

    def _track(self, container: Any) -> Any:
        grey = [stream for stream in container.streams.video if str(stream.format and stream.format.name) in _GREY]
        named = [stream for stream in grey if "DEPTH" in stream.metadata.get("title", "").upper()]
        chosen = named or grey
        if len(chosen) != 1:
            raise FrameError(
                f"{self.path}: {len(chosen)} tracks of 16-bit grey; expected one, or one called DEPTH: depth is lost "
                "in other video formats"
            )
        return chosen[0]


def _attachment(container: Any) -> Any:
    """The calibration file of an Azure Kinect recording, parsed."""
    for stream in container.streams:
        name = str(stream.metadata.get("filename", ""))
        if stream.type == "attachment" and name.endswith(".json"):
            return json.loads(bytes(stream.data).rstrip(b"\0"))
    return None


def azure_kinect_lens(calibration: Any, mode: str, size: tuple[int, int]) -> Lens:
    """The depth camera of an Azure Kinect in one of its modes.

    Its factory calibration is relative to the sensor. Each mode bins the sensor image and crops it.

    Args:
        calibration: the parsed calibration file.
        mode: value of the tag K4A_DEPTH_MODE, such as "NFOV_UNBINNED".
        size: width and height of the frames.

    Raises:
        FrameError: The mode is unknown, or the calibration is not one of an Azure Kinect.
    """
    edge, corner, expected = _MODES.get(mode, (0, (0, 0), (0, 0)))
    if size != expected:
        raise FrameError(f"depth mode {mode} with frames of {size[0]}x{size[1]}; expected one of {', '.join(_MODES)}")
    try:
        cameras = calibration["CalibrationInformation"]["Cameras"]
        inner = next(one for one in cameras if one["Location"] == _DEPTH_CAMERA)["Intrinsics"]
        model, values = str(inner["ModelType"]), [float(value) for value in inner["ModelParameters"]]
        cx, cy, fx, fy, k1, k2, k3, k4, k5, k6, _, _, p2, p1 = values[:14]
    except (KeyError, TypeError, ValueError, StopIteration) as error:
        raise FrameError(f"not the calibration of an Azure Kinect ({type(error).__name__}: {error})") from None
    if not model.endswith("BrownConrady"):
        raise FrameError(f"lens model {model}; expected CALIBRATION_LensDistortionModelBrownConrady")
    # The calibration puts 0 at the corner of the first pixel, and pixels have their centre at whole numbers here.
    camera = Camera(fx * edge, fy * edge, cx * edge - corner[0] - 0.5, cy * edge - corner[1] - 0.5, *size)
    return make_lens(camera, (k1, k2, p1, p2, k3, k4, k5, k6), "rational_polynomial")
