# SPDX-License-Identifier: MIT
"""Export of synthetic frames to files in the layout of the published datasets, for other tools or inspection."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import cv2
import numpy as np
import numpy.typing as npt
import torch

from poseren_ext._utils.atomic_files import atomic_file, write_atomic
from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.io.pose_files import write_poses
from poseren_ext.synthetic.frames import SyntheticHands

_BATCH = 16


Progress: TypeAlias = Callable[[int], None]
"""Called with the number of frames done."""


def export_frames(
    hands: SyntheticHands, folder: Path, count: int, first: int = 0, progress: Progress | None = None
) -> None:
    """Writes whole frames and their labels.

    `depth/000000.png`: 16-bit, mm, 0 where the camera sees nothing; `labels.txt`: u v d of every joint in the order of
    the skeleton, one line per frame; `centers.txt`: u v d; `list.txt`: paths of the frames; `camera.txt`: fx fy cx cy.
    After an interruption, all frames in the folder have labels.

    Args:
        hands: the set; its camera must have a size.
        folder: output folder; created if it does not exist.
        count: number of frames.
        first: index of the first frame.
        progress: called with the number of frames written.

    Raises:
        ValueError: count is below 1, or the camera has no size.
        OSError: A file cannot be written.
    """
    _require_frames(count)
    (folder / "depth").mkdir(parents=True, exist_ok=True)
    names: list[str] = []
    parts: list[FrameBatch] = []
    try:
        for frames, stored in _batches(hands, count, first):
            for depth in stored:
                name = f"depth/{len(names):06d}.png"
                write_atomic(folder / name, cv2.imencode(".png", depth)[1].tobytes())
                names.append(name)
            parts.append(dataclasses.replace(frames, depth=frames.depth[:, :0]))  # the labels; the images are on disk
            if progress is not None:
                progress(len(names))
    finally:
        _write_labels(hands, folder, names, parts)


def export_stack(
    hands: SyntheticHands, path: Path, count: int, first: int = 0, progress: Progress | None = None
) -> None:
    """Write frames and labels atomically into one .npz file, which `poseren predict` reads.

    `depth`: uint16 [N, H, W] mm; `uvd` and `xyz`: float32 [N, J, 3]; `center`: [N, 3]; `camera`: fx, fy, cx, cy;
    `joints`: their names. Arguments and errors as `export_frames`.
    """
    _require_frames(count)
    parts = []
    for frames, stored in _batches(hands, count, first):
        parts.append((stored, frames.uvd.numpy(), frames.xyz.numpy(), frames.center.numpy()))
        if progress is not None:
            progress(sum(len(part[0]) for part in parts))
    depth, uvd, xyz, center = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    with atomic_file(path) as file:
        np.savez_compressed(
            file,
            depth=depth,
            uvd=uvd,
            xyz=xyz,
            center=center,
            camera=hands.camera.tensor().numpy(),
            joints=np.array(SKELETONS[hands.skeleton].joints),
        )


def stored_depth(depth: torch.Tensor) -> npt.NDArray[np.uint16]:
    """Depth [B, H, W] as stored in files, integer mm."""
    return depth.round().clamp(max=65535).to(torch.int32).numpy().astype(np.uint16)


def _require_frames(count: int) -> None:
    if count < 1:
        raise ValueError(f"count is {count}; expected at least one frame")


def _batches(hands: SyntheticHands, count: int, first: int) -> Iterator[tuple[FrameBatch, npt.NDArray[np.uint16]]]:
    """Batches of frames, and their depth as stored: uint16 [B, H, W] mm."""
    for start in range(first, first + count, _BATCH):
        frames = hands.frames(torch.arange(start, min(start + _BATCH, first + count)))
        yield frames, stored_depth(frames.depth)


def _write_labels(hands: SyntheticHands, folder: Path, names: list[str], parts: list[FrameBatch]) -> None:
    if not parts:
        return
    uvd, center = (torch.cat([getattr(part, name) for part in parts]) for name in ("uvd", "center"))
    write_poses(folder / "labels.txt", uvd.numpy())
    write_poses(folder / "centers.txt", center[:, None].numpy())
    write_atomic(folder / "list.txt", "".join(f"{name}\n" for name in names[: len(uvd)]))
    camera = hands.camera
    write_atomic(folder / "camera.txt", f"{camera.fx} {camera.fy} {camera.cx} {camera.cy}\n")
