# SPDX-License-Identifier: MIT
"""Recording of live sessions: frames as files, and one JSON line per frame (see `lines`)."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from poseren_ext._utils.atomic_files import append_whole, atomic_file, write_atomic
from poseren_ext.datasets.folder import POSES, RECORDING
from poseren_ext.geometry.camera import Camera
from poseren_ext.live.estimator import LiveResult
from poseren_ext.live.lines import result_line


class Recorder:
    """Writes a session to a folder that `poseren predict`, `doctor`, `live --source folder` and `view` read.

    `000000.png`, `000001.png`, ... are the valid frames in stored units, written atomically (as `.npy` if they are not
    16-bit). `poses.jsonl` has one line per frame of the stream; lines are complete even if the disk becomes full.
    `recording.json` has the camera and the unit.

    Args:
        folder: output folder; created if it does not exist.
        camera: intrinsics of the frames.
        depth_unit: mm per stored unit.

    Raises:
        FileExistsError: The folder contains a recording.
        OSError: The folder cannot be written to.
    """

    def __init__(self, folder: Path, camera: Camera, depth_unit: float) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise FileExistsError(f"{folder} is not empty; record into a new folder")
        self.folder = folder
        self.frames = 0
        settings = {"camera": asdict(camera), "depth_unit": depth_unit}
        write_atomic(folder / RECORDING, json.dumps(settings, indent=1) + "\n")
        self._lines = (folder / POSES).open("ab", buffering=0)

    def write(self, result: LiveResult) -> None:
        """Add a frame and its line.

        Raises:
            OSError: The disk is full, or the folder was removed.
        """
        file = None if result.outcome == "skipped" else self._write_frame(np.asarray(result.frame.depth))
        append_whole(self._lines, (result_line(result, file=file) + "\n").encode())

    def _write_frame(self, depth: Any) -> str:
        if depth.dtype == np.uint16:
            name = f"{self.frames:06d}.png"
            # The fastest compression level, because the live loop waits for it.
            content = cv2.imencode(".png", depth, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
            write_atomic(self.folder / name, content)
        else:
            name = f"{self.frames:06d}.npy"
            with atomic_file(self.folder / name) as file:
                np.save(file, depth)
        self.frames += 1
        return name

    def close(self) -> None:
        """Close the files. A second call does nothing."""
        self._lines.close()

    def __enter__(self) -> Recorder:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
