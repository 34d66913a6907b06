# SPDX-License-Identifier: MIT
"""Export of synthetic scenes to files: depth images, and one line per hand."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import torch

from poseren_ext._utils.atomic_files import atomic_file, write_atomic
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.synthetic.export import Progress, stored_depth
from poseren_ext.synthetic.scenes import SCENE_KINDS, SceneFrames, SyntheticScenes

SIDES = ("right", "left", "none")
_BATCH = 16


def export_scenes(
    scenes: SyntheticScenes, folder: Path, count: int, first: int = 0, progress: Progress | None = None
) -> None:
    """Writes frames and their hands.

    `depth/000000.png`: 16-bit, mm, 0 where the camera sees nothing; `list.txt`: paths of the frames; `camera.txt`: fx
    fy cx cy; `hands.csv`: one line per hand with the frame's path and kind of scene, the side, the visible share, and u
    (px), v (px), d (mm) of every joint. A frame without a hand has one line with the side "none" and no joints.

    Args:
        scenes: the set.
        folder: output folder; created if it does not exist.
        count: number of frames.
        first: index of the first frame.
        progress: called with the number of frames written.

    Raises:
        OSError: A file cannot be written.
    """
    (folder / "depth").mkdir(parents=True, exist_ok=True)
    joints = SKELETONS[scenes.skeleton].joints
    text = io.StringIO()
    names: list[str] = []
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["frame", "kind", "side", "visible", *(f"{joint}_{axis}" for joint in joints for axis in "uvd")])
    for frames in _batches(scenes, count, first):
        for i, depth in enumerate(stored_depth(frames.depth)):
            names.append(f"depth/{len(names):06d}.png")
            write_atomic(folder / names[-1], cv2.imencode(".png", depth)[1].tobytes())
            rows.writerows([names[-1], *row] for row in _hands(frames, i))
        if progress is not None:
            progress(len(names))
    write_atomic(folder / "hands.csv", text.getvalue())
    write_atomic(folder / "list.txt", "".join(f"{name}\n" for name in names))
    camera = scenes.camera
    write_atomic(folder / "camera.txt", f"{camera.fx} {camera.fy} {camera.cx} {camera.cy}\n")


def export_scene_stack(
    scenes: SyntheticScenes, path: Path, count: int, first: int = 0, progress: Progress | None = None
) -> None:
    """Writes frames and their hands atomically into one .npz file.

    `depth`: uint16 [N, H, W] mm; `uvd` and `xyz`: float32 [N, 2, J, 3]; `side`: "right", "left" or "none" [N, 2];
    `visible`: [N, 2]; `kind`: [N]; `camera`: fx, fy, cx, cy; `joints`: their names. Arguments as `export_scenes`.
    """
    parts: list[tuple[npt.NDArray[np.generic], ...]] = []
    for frames in _batches(scenes, count, first):
        labels = (frames.uvd, frames.xyz, frames.visible, frames.side, frames.kind)
        parts.append((stored_depth(frames.depth), *(label.numpy() for label in labels)))
        if progress is not None:
            progress(sum(len(part[0]) for part in parts))
    depth, uvd, xyz, visible, side, kind = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    with atomic_file(path) as file:
        np.savez_compressed(
            file,
            depth=depth,
            uvd=uvd,
            xyz=xyz,
            visible=visible,
            side=np.array(SIDES)[side],  # NO_HAND is -1, the last one
            kind=np.array(SCENE_KINDS)[kind],
            camera=scenes.camera.tensor().numpy(),
            joints=np.array(SKELETONS[scenes.skeleton].joints),
        )


def _batches(scenes: SyntheticScenes, count: int, first: int) -> Iterator[SceneFrames]:
    for start in range(first, first + count, _BATCH):
        yield scenes.frames(torch.arange(start, min(start + _BATCH, first + count)))


def _hands(frames: SceneFrames, i: int) -> Iterator[list[str]]:
    """The lines of frame i, without its path."""
    kind, found = SCENE_KINDS[int(frames.kind[i])], frames.side[i] >= 0
    if not found.any():
        yield [kind, SIDES[-1], "0"]
    for hand in found.nonzero()[:, 0]:
        uvd = frames.uvd[i, hand].flatten().tolist()
        side = SIDES[int(frames.side[i, hand])]
        yield [kind, side, f"{float(frames.visible[i, hand]):.3f}", *(f"{value:.3f}" for value in uvd)]
