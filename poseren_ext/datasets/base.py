# SPDX-License-Identifier: MIT
"""What the datasets share: frames that are decoded when asked for, labels, centres, and complaints that help."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from poseren_ext.datasets.centers import Centers, image_center, resolve_centers
from poseren_ext.datasets.info import DatasetInfo
from poseren_ext.datasets.sample import Hand, Sample
from poseren_ext.geometry.camera import Camera
from poseren_ext.geometry.skeleton import Skeleton
from poseren_ext.io.depth_files import DepthFrame, read_depth
from poseren_ext.io.number_tables import read_number_table

PathLike = str | os.PathLike[str]
Labels = npt.NDArray[np.float32]


class DatasetError(ValueError):
    """A dataset that is not as it was distributed; the message names the file and says what was expected."""


class NoCenterError(DatasetError):
    """A frame without a hand region, so that there is no centre to crop around."""


class DepthDataset(Dataset[Sample]):
    """Frames of one split of a dataset, decoded in ``__getitem__``; safe in DataLoader workers, and picklable.

    Attributes:
        folder: what the frames' names are relative to.
        names: of the frames, as in the dataset's own lists.
        subjects: of the frames.
        uvd: float32 [N, J, 3] labels in pixels and mm, NaN where there are none; not mirrored.
        centers: float32 [N, 3] as given, or None: then they are taken from the image.
        hand: the hand that the samples show; frames of the other one come mirrored.
    """

    info: DatasetInfo
    """The dataset's facts: camera, skeleton, thresholds."""

    def __init__(
        self,
        folder: Path,
        names: Sequence[str],
        uvd: npt.NDArray[Any],
        subjects: Sequence[str],
        *,
        centers: Centers,
        hand: Hand | None,
        strict: bool,
        labels: Path,
    ) -> None:
        self.folder, self.names, self.subjects, self.labels = folder, list(names), list(subjects), labels
        self.uvd: Labels = np.ascontiguousarray(uvd, np.float32)
        if hand not in (None, "left", "right"):
            raise ValueError(f"hand is {hand!r}; expected 'left', 'right' or None for the hand that was recorded")
        self.hand: Hand = hand or self.skeleton.hand
        self.centers = resolve_centers(centers, len(self.names))
        if strict:
            self._refuse_strays()

    @property
    def camera(self) -> Camera:
        """Intrinsics of the dataset's camera (of frames that are not mirrored)."""
        return self.info.camera

    @property
    def skeleton(self) -> Skeleton:
        """Joints of the labels, and the recorded hand."""
        return self.info.skeleton

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: int) -> Sample:
        """One frame.

        Raises:
            IndexError: The index is outside the dataset.
            FileNotFoundError: its file is gone.
            FrameError: its file is damaged.
            DatasetError: its file holds a frame of another size, or no centre can be found.
        """
        index = self._position(index)
        frame = self.read(index)
        uvd = torch.from_numpy(self.uvd[index].copy())
        sample = Sample(
            depth=torch.from_numpy(frame),
            camera=self.camera,
            uvd=uvd,
            center=self.center(index, frame),
            name=self.names[index],
            subject=self.subjects[index],
            hand=self.skeleton.hand,
            index=index,
        )
        return sample if sample.hand == self.hand else sample.mirrored()

    def path(self, index: int) -> Path:
        """The file of a frame."""
        return self.folder / self.names[index]

    def read(self, index: int) -> DepthFrame:
        """The depth of a frame as stored, [H, W] mm; raises as ``__getitem__`` does."""
        return self._sized(self.path(index))

    def center(self, index: int, frame: DepthFrame) -> Tensor:
        """Where the hand is in a frame that was read: float32 [3] u, v (pixels), z (mm).

        Raises:
            NoCenterError: the image has no hand region.
            FileNotFoundError: the file that the centre is taken from is gone.
        """
        if self.centers is not None:
            return torch.from_numpy(self.centers[index].copy())
        region, mask = self._region(index, frame)
        try:
            return image_center(torch.from_numpy(region), self.info.thresholds, str(self.path(index)), mask)
        except ValueError as error:
            raise NoCenterError(str(error)) from None

    def strays(self) -> tuple[list[str], list[str]]:
        """Names of labelled frames that have no file, and of files beside them that have no label."""
        listed: dict[str, set[str]] = defaultdict(set)
        for name in self.names:
            parent, _, file = name.rpartition("/")
            listed[parent].add(file)
        missing, unlabelled = [], []
        for parent, files in listed.items():
            folder = self.folder / parent
            here = {path.name for path in folder.iterdir()} if folder.is_dir() else set()
            found = {file for file in here if self._is_frame(file)}
            prefix = f"{parent}/" if parent else ""
            missing += [prefix + file for file in sorted(files - found)]
            unlabelled += [prefix + file for file in sorted(found - files)]
        return missing, unlabelled

    def label_file(self, name: str) -> Path:
        """The file that holds, or should hold, the label of a frame."""
        return self.labels

    def _refuse_strays(self) -> None:
        missing, unlabelled = self.strays()
        if missing:
            raise FileNotFoundError(
                f"{self.folder / missing[0]}: no such file, but {self.label_file(missing[0])} has a label for it; "
                f"{len(missing)} of {len(self)} labelled frames are missing. Unpack the dataset again"
            )
        if unlabelled:
            raise DatasetError(
                f"{self.folder / unlabelled[0]}: a frame without a label in {self.label_file(unlabelled[0])}; there "
                f"are {len(self)} labels for {len(self) + len(unlabelled)} frames. Use the label file of this version "
                "of the dataset, or pass strict=False to leave such frames out"
            )

    def _is_frame(self, file: str) -> bool:
        """Whether a file of a frames' folder is such a frame."""
        return file.endswith(self.info.suffix)

    def _region(self, index: int, frame: DepthFrame) -> tuple[DepthFrame, Tensor | None]:
        """The image that the centre is taken from, and its pixels that count (None: all)."""
        return frame, None

    def _sized(self, path: Path) -> DepthFrame:
        frame = read_depth(path)
        expected = (self.camera.height, self.camera.width)
        if frame.shape != expected:
            raise DatasetError(
                f"{path}: {frame.shape[1]}x{frame.shape[0]} pixels; frames of {self.info.name} have "
                f"{expected[1]}x{expected[0]}: was it resized?"
            )
        return frame

    def _position(self, index: int) -> int:
        if not -len(self) <= index < len(self):
            raise IndexError(f"frame {index} asked for; there are {len(self)}")
        return index % len(self)


def require_one_of(given: str, name: str, options: Sequence[str]) -> None:
    """Refuses anything but one of the options.

    Raises:
        ValueError: The value is not one of the options.
    """
    if given not in options:
        raise ValueError(f"{name} is {given!r}; expected one of {', '.join(options)}")


def first_existing(candidates: Sequence[Path], what: str) -> Path:
    """The first of the files that exists.

    Raises:
        FileNotFoundError: none does.
    """
    for path in candidates:
        if path.is_file():
            return path
    raise FileNotFoundError(f"{candidates[0]}: no such file; expected {what}. Is this the dataset's folder?")


def read_table(path: Path, columns: int, what: str) -> tuple[list[str], npt.NDArray[np.float64]]:
    """Reads a text file of one line per frame: a name, then numbers. Empty lines are skipped.

    Args:
        path: the file.
        columns: numbers after the name.
        what: what a line holds, for messages.

    Returns:
        names, and float64 [N, columns].

    Raises:
        DatasetError: The file is not text or empty, or a line has another number of columns or a value that is not a
            finite number.
    """
    table = read_number_table(path, what=what, error=DatasetError, columns=columns, named=True, skip_empty=True)
    for name, line in zip(table.names, table.lines.tolist(), strict=True):
        if name.startswith("/") or ".." in name.replace("\\", "/").split("/"):
            raise DatasetError(
                f"{path}, line {line}: {name!r} is outside the dataset's folder; expected a name within it"
            )
    return table.names, table.values
