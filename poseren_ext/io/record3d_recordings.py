# SPDX-License-Identifier: MIT
"""Recordings of the Record3D app (iPhone and iPad), .r3d: a zip file of LZFSE-compressed float32 depth in metres."""

from __future__ import annotations

import json
import math
import re
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from poseren_ext._utils.optional_libraries import import_library
from poseren_ext.geometry.camera import Camera
from poseren_ext.geometry.lens import Lens
from poseren_ext.io.depth_pictures import MAX_PIXELS, DepthFrame, FrameError
from poseren_ext.io.recordings import Recording, require_frame

_FRAME = re.compile(r"(?:.*/)?rgbd/(\d+)\.depth")


class Record3DRecording(Recording):
    """The depth frames of an .r3d file.

    Args:
        path: the file.

    Raises:
        ModuleNotFoundError: lzfse is not installed.
        FrameError: The file is not such a recording.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._library = import_library("lzfse", "record3d", ".r3d recordings")
        with zipfile.ZipFile(path) as archive:
            numbered = [(int(found[1]), name) for name in archive.namelist() if (found := _FRAME.fullmatch(name))]
            metadata = json.loads(archive.read(next(name for name in archive.namelist() if name.endswith("metadata"))))
            self._names = [name for _, name in sorted(numbered)]
            pixels = len(self._unpacked(archive.read(self._names[0]))) if self._names else 0
        self.depth_unit = 1000.0
        width, height = int(metadata["w"]), int(metadata["h"])  # of the colour image, which the intrinsics are for
        scale = math.sqrt(pixels / (width * height))
        self._size = (int(metadata.get("dw", round(width * scale))), int(metadata.get("dh", round(height * scale))))
        if self._size[0] * self._size[1] != pixels:
            raise FrameError(f"{path}: frames of {pixels} pixels, but the metadata says {self._size}")
        fx, _, _, _, fy, _, cx, cy, _ = (float(value) for value in metadata["K"])  # by columns
        across, down = self._size[0] / width, self._size[1] / height
        self.lens = Lens(
            Camera(fx * across, fy * down, (cx + 0.5) * across - 0.5, (cy + 0.5) * down - 0.5, *self._size)
        )

    def __len__(self) -> int:
        return len(self._names)

    def stored_frames(self, start: int) -> Iterator[object]:
        """The compressed frames from number `start` on."""
        with zipfile.ZipFile(self.path) as archive:
            for name in self._names[start:]:
                yield archive.read(name)

    def decode(self, stored: Any) -> DepthFrame:
        """The depth of a compressed frame, metres."""
        values = self._unpacked(stored)
        width, height = self._size
        if len(values) != width * height:
            raise FrameError(f"{self.path}: a frame of {len(values)} pixels; expected {width}x{height}")
        return require_frame(self.path, values.reshape(height, width))

    def _unpacked(self, content: bytes) -> DepthFrame:
        try:
            values = np.frombuffer(self._library.decompress(content), "<f4")
        except Exception as error:  # lzfse.error, and ValueError for sizes that are not whole
            raise FrameError(f"{self.path}: a damaged frame ({error})") from None
        if len(values) > MAX_PIXELS:
            raise FrameError(f"{self.path}: a frame of {len(values)} pixels; expected at most {MAX_PIXELS}")
        return values
