# SPDX-License-Identifier: MIT
"""Synthetic frames as files, laid out as the published label files are: for other people's tools, and for the eye."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import cv2
import numpy as np
import torch

from poseren_ext.data.atomic import write_atomic
from poseren_ext.data.synthetic.frames import Frames, SyntheticHands
from poseren_ext.posefile import write_poses

_BATCH = 16


def export_frames(hands: SyntheticHands, folder: Path, count: int, first: int = 0) -> None:
    """Writes whole frames and their labels.

    `depth/000000.png`: 16-bit, mm, 0 where the camera sees nothing; `labels.txt`: u v d of every joint in the order of
    the hands' skeleton, a line a frame; `centers.txt`: u v d; `list.txt`: the frames' paths; `camera.txt`: fx fy cx cy.

    Args:
        hands: the set; its camera must have a size.
        folder: where to; made if need be.
        count: how many frames.
        first: index of the first one.

    Raises:
        ValueError: fewer than one frame, or a camera without a size.
        OSError: a file cannot be written.
    """
    if count < 1:
        raise ValueError(f"count is {count}; expected at least one frame")
    (folder / "depth").mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    parts: list[Frames] = []
    for start in range(first, first + count, _BATCH):
        frames = hands.frames(torch.arange(start, min(start + _BATCH, first + count)))
        for depth in frames.depth.round().clamp(max=65535).to(torch.int32).numpy().astype(np.uint16):
            names.append(f"depth/{len(names):06d}.png")
            write_atomic(folder / names[-1], cv2.imencode(".png", depth)[1].tobytes())
        parts.append(dataclasses.replace(frames, depth=frames.depth[:, :0]))  # the labels; the images are on disk
    write_poses(folder / "labels.txt", torch.cat([part.uvd for part in parts]).numpy())
    write_poses(folder / "centers.txt", torch.cat([part.center for part in parts])[:, None].numpy())
    write_atomic(folder / "list.txt", "".join(f"{name}\n" for name in names))
    camera = hands.camera
    write_atomic(folder / "camera.txt", f"{camera.fx} {camera.fy} {camera.cx} {camera.cy}\n")
