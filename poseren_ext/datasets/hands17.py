# SPDX-License-Identifier: MIT
"""HANDS 2017 challenge (Yuan et al.): ``training`` and ``frame`` folders of 16-bit PNG and text."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from poseren_ext.datasets.base import DatasetError, DepthDataset, PathLike, first_existing, read_table, require_one_of
from poseren_ext.datasets.centers import Centers
from poseren_ext.datasets.info import DatasetInfo
from poseren_ext.datasets.sample import Hand
from poseren_ext.geometry.camera import CAMERAS, xyz_to_uvd
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.io.depth_files import DepthFrame


class HANDS17(DepthDataset):
    """HANDS 2017, 21 joints. The labels of the test frames were never published: theirs are NaN.

    Centres from the image are taken within the test frames' boxes; training frames have none.

    Args:
        root: the folder that holds ``training`` and ``frame``.
        split: "train" (957032 frames), or "test": the frame-based task (295510).
        centers: "image", a ``Path`` to a text file, or an array [N, 3].
        hand: "left" mirrors the frames; None leaves them as recorded.
        boxes: what a test frame's four numbers are: "corners" = left, top, right, bottom, or "size" = left, top, width,
            height; pixels.
        strict: look for every frame now, and refuse missing and unlabelled ones.

    Raises:
        FileNotFoundError: The folder is not the challenge's, or a frame is missing.
        DatasetError: A text file is damaged, frames have no labels, or boxes are of the other kind.
    """

    info = DatasetInfo(
        name="hands17",
        camera=CAMERAS["hands17"],
        skeleton=SKELETONS["hands17"],
        thresholds=(1.0, 800.0),
        splits={"train": (957032,), "test": (295510,)},
        marks=("training/Training_Annotation.txt", "frame/BoundingBox.txt"),
    )

    def __init__(
        self,
        root: PathLike,
        split: Literal["train", "test"] = "train",
        *,
        centers: Centers = "image",
        hand: Hand | None = None,
        boxes: Literal["corners", "size"] = "corners",
        strict: bool = True,
    ) -> None:
        require_one_of(split, "split", ("train", "test"))
        require_one_of(boxes, "boxes", ("corners", "size"))
        root = Path(root)
        self.boxes: npt.NDArray[np.float32] | None = None
        if split == "train":
            labels = first_existing([root / "training" / "Training_Annotation.txt"], "the challenge's training labels")
            names, values = read_table(labels, 63, "a frame's name and 63 numbers (21 joints x y z)")
            xyz = values.reshape(-1, 21, 3)
            behind = (xyz[..., 2] <= 0).any(1)
            if behind.any():
                name = names[int(np.flatnonzero(behind)[0])]
                raise DatasetError(f"{labels}: {name} has a joint behind the camera; expected positive z in mm")
            uvd = xyz_to_uvd(xyz, CAMERAS["hands17"])
        else:
            labels = first_existing([root / "frame" / "BoundingBox.txt"], "the challenge's test boxes")
            names, values = read_table(labels, 4, "a frame's name and the 4 numbers of its box")
            self.boxes = _corners(values, boxes, labels, names)
            uvd = np.full((len(names), 21, 3), np.nan)
        super().__init__(
            labels.parent / "images",
            names,
            uvd,
            [""] * len(names),
            centers=centers,
            hand=hand,
            strict=strict,
            labels=labels,
        )

    def _region(self, index: int, frame: DepthFrame) -> tuple[DepthFrame, Tensor | None]:
        if self.boxes is None:
            return frame, None
        left, top, right, bottom = self.boxes[index].tolist()
        columns, rows = torch.arange(frame.shape[1]), torch.arange(frame.shape[0])
        across, down = (columns >= left) & (columns <= right), (rows >= top) & (rows <= bottom)
        return frame, across & down[:, None]


def _corners(values: npt.NDArray[np.float64], kind: str, path: Path, names: list[str]) -> npt.NDArray[np.float32]:
    """Boxes as left, top, right, bottom: float32 [N, 4] pixels."""
    corners = values.astype(np.float32)
    if kind == "size":
        corners[:, 2:] += corners[:, :2]
    empty = (corners[:, 2:] <= corners[:, :2]).any(1)
    if empty.any():
        name = names[int(np.flatnonzero(empty)[0])]
        other = "size" if kind == "corners" else "corners"
        raise DatasetError(f"{path}: the box of {name} is empty, read as {kind}; pass boxes={other!r} if that is meant")
    return corners
