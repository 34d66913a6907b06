# SPDX-License-Identifier: MIT
"""Stream frames and their validation: cameras deliver invalid frames when they are covered, reset or overrun."""

from __future__ import annotations

import time as time_module
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poseren_ext.inference.input_frames import read_frames

_CPU = torch.device("cpu")


@dataclass(frozen=True)
class StreamFrame:
    """One frame as the camera delivered it.

    Attributes:
        depth: [H, W] in stored units; not validated, so a broken camera may deliver anything.
        number: frame counter of the camera; a gap means dropped frames.
        arrived: time of arrival, seconds of `time.perf_counter`.
        time: time of the frame on the clock of its stream, seconds; default: `arrived`.
        name: location of a recorded frame.
        fault: reason why a recorded frame could not be read.
    """

    depth: Any
    number: int
    arrived: float = field(default_factory=time_module.perf_counter)
    time: float | None = None
    name: str = ""
    fault: str = ""


class UnusableFrameError(ValueError):
    """A frame that cannot be used.

    Attributes:
        reason: short name of the fault; the same text for each kind, so that it can be counted.
    """

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(detail or reason)
        self.reason = reason


class FrameGate:
    """Accepts each frame once, if it has the size of the stream and contains depth.

    Attributes:
        size: rows and columns of the stream, taken from its first frame with depth.
        dropped: number of frames that the camera counted but did not deliver.
    """

    def __init__(self) -> None:
        self.size: tuple[int, int] | None = None
        self.dropped = 0
        self._number: int | None = None
        self._last: npt.NDArray[Any] | None = None

    def check(self, frame: StreamFrame) -> Tensor:
        """The frame as a tensor [H, W] on the CPU.

        Raises:
            UnusableFrameError: The frame is repeated, has another size, has no depth, or is not a depth frame.
        """
        before, self._number = self._number, frame.number
        if before is not None and frame.number > before + 1:
            self.dropped += frame.number - before - 1
        if frame.number == before:
            raise UnusableFrameError("repeated", f"number {frame.number} came again")
        if frame.fault:
            raise UnusableFrameError("unreadable", frame.fault)
        try:
            tensor = read_frames([frame.depth], _CPU).depth[0]
        except (TypeError, ValueError) as error:
            raise UnusableFrameError("not a depth frame", str(error)) from None
        depth: npt.NDArray[Any] = tensor.numpy()
        if not _has_depth(depth):
            raise UnusableFrameError("no depth", "all pixels are 0, negative, NaN or infinite")
        if self.size is not None and depth.shape != self.size:
            (height, width), (rows, columns) = depth.shape, self.size
            raise UnusableFrameError("resized", f"{width}x{height} pixels, the stream had {columns}x{rows}")
        if self._last is not None and np.array_equal(depth, self._last):
            raise UnusableFrameError("repeated", "the same pixels came again")
        self.size = (depth.shape[0], depth.shape[1])
        self._last = depth.copy()  # because a camera may reuse its memory
        return tensor


def _has_depth(depth: npt.NDArray[Any]) -> bool:
    seen = depth > 0 if depth.dtype.kind in "iu" else (depth > 0) & np.isfinite(depth)
    return bool(seen.any())
