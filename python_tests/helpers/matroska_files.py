# SPDX-License-Identifier: MIT
"""Azure Kinect recordings as Microsoft documents them, written element by element (no library writes their codec)."""

from __future__ import annotations

import json
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def element(number: int, content: bytes) -> bytes:
    """An EBML element: its number, its size in eight bytes, and its content."""
    return number.to_bytes((number.bit_length() + 7) // 8, "big") + (2**56 + len(content)).to_bytes(8, "big") + content


def whole(number: int, value: int) -> bytes:
    """An element with a whole number."""
    return element(number, value.to_bytes(max(1, (value.bit_length() + 7) // 8), "big"))


def azure_kinect_file(
    path: Path, tracks: dict[str, Sequence[npt.NDArray[np.uint16]]], tags: dict[str, str], calibration: Any = None
) -> Path:
    """A recording with tracks of big-endian 16-bit grey, by name."""
    header = element(0x4286, b"\1") + element(0x4282, b"matroska") + element(0x4287, b"\2") + element(0x4285, b"\2")
    entries, blocks = b"", []
    for place, (name, frames) in enumerate(tracks.items(), start=1):
        height, width = frames[0].shape
        bitmap = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 16, b"b16g", 2 * width * height, 0, 0, 0, 0)
        video = whole(0xB0, width) + whole(0xBA, height)
        entries += element(
            0xAE,
            whole(0xD7, place)
            + whole(0x73C5, place)
            + whole(0x83, 1)
            + element(0x86, b"V_MS/VFW/FOURCC")
            + element(0x63A2, bitmap)
            + element(0x536E, name.encode())
            + element(0xE0, video),
        )
        for time, frame in enumerate(frames):
            content = bytes([0x80 + place]) + struct.pack(">hB", 33 * time, 0x80) + frame.astype(">u2").tobytes()
            blocks.append((time, place, element(0xA3, content)))
    parts = element(0x1549A966, whole(0x2AD7B1, 1_000_000) + element(0x4D80, b"test") + element(0x5741, b"test"))
    parts += element(0x1654AE6B, entries)
    if calibration is not None:
        names = element(0x466E, b"calibration.json") + element(0x4660, b"application/octet-stream") + whole(0x46AE, 7)
        attached = element(0x61A7, names + element(0x465C, json.dumps(calibration).encode() + b"\0"))
        parts += element(0x1941A469, attached)
    simple = b"".join(
        element(0x7373, element(0x63C0, b"") + element(0x67C8, element(0x45A3, name.encode()) + element(0x4487, text)))
        for name, text in ((name, value.encode()) for name, value in tags.items())
    )
    parts += element(0x1254C367, simple)
    parts += element(0x1F43B675, whole(0xE7, 0) + b"".join(block for _, _, block in sorted(blocks)))
    path.write_bytes(element(0x1A45DFA3, header) + element(0x18538067, parts))
    return path
