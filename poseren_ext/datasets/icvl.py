# SPDX-License-Identifier: MIT
"""ICVL hand posture dataset (Tang et al. 2014): ``Training`` and ``Testing`` folders of 16-bit PNG and label text."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np

from poseren_ext.datasets.base import DatasetError, DepthDataset, PathLike, first_existing, read_table, require_one_of
from poseren_ext.datasets.centers import Centers
from poseren_ext.datasets.info import DatasetInfo
from poseren_ext.datasets.sample import Hand
from poseren_ext.geometry.camera import CAMERAS
from poseren_ext.geometry.skeleton import SKELETONS

_FOLDERS = {"train": ("Training", "train", "."), "test": ("Testing", "test", ".")}
_LABELS = {"train": ("labels.txt",), "test": ("test_seq_1.txt", "test_seq_2.txt")}
_LINE = "a frame's path and 48 numbers (16 joints x u v d)"


class ICVL(DepthDataset):
    """ICVL, 16 joints of left hands.

    Args:
        root: the folder that holds ``Training`` and ``Testing``, or one of these.
        split: "train", or "test" (two sequences of 702 and 894 frames).
        centers: "image", a ``Path`` to a text file, or an array [N, 3].
        hand: "right" mirrors the frames; None leaves the left hands that were recorded.
        rotated: with the training frames that the authors added by turning the image; False leaves the recorded ones.
        strict: look for every frame now, and refuse missing and unlabelled ones.

    Raises:
        FileNotFoundError: The folder is not ICVL's, or a frame is missing.
        DatasetError: The folder is ICVL's first release, a label file is damaged, or frames have no labels.
    """

    info = DatasetInfo(
        name="icvl",
        camera=CAMERAS["icvl"],
        skeleton=SKELETONS["icvl16"],
        thresholds=(1.0, 500.0),  # published as 0..500, with 0 replaced by the frame's maximum before
        splits={"train": (331006,), "test": (1596,)},
        marks=("Training/labels.txt", "Testing/test_seq_1.txt", "labels.txt", "test_seq_1.txt"),
        results=("fig6",),
    )

    def __init__(
        self,
        root: PathLike,
        split: Literal["train", "test"] = "train",
        *,
        centers: Centers = "image",
        hand: Hand | None = None,
        rotated: bool = True,
        strict: bool = True,
    ) -> None:
        require_one_of(split, "split", ("train", "test"))
        _refuse_first_release(Path(root), split)
        candidates = [Path(root) / folder / _LABELS[split][0] for folder in _FOLDERS[split]]
        folder = first_existing(candidates, f"ICVL's {split}ing labels").parent
        names: list[str] = []
        parts = []
        for file in _LABELS[split]:
            found, values = read_table(first_existing([folder / file], f"ICVL's {split}ing labels"), 48, _LINE)
            names += [name.replace("\\", "/") for name in found]
            parts.append(values)
        uvd = np.concatenate(parts).reshape(-1, 16, 3)
        if not rotated:
            kept = [number for number, name in enumerate(names) if _is_recorded(name)]
            if not kept:
                raise DatasetError(f"{folder / _LABELS[split][0]}: only rotated frames; expected recorded ones as well")
            names, uvd = [names[number] for number in kept], uvd[kept]
        subjects = [name.rpartition("/")[0] for name in names]
        labels = folder / _LABELS[split][0]
        super().__init__(
            folder / "Depth", names, uvd, subjects, centers=centers, hand=hand, strict=strict, labels=labels
        )

    def label_file(self, name: str) -> Path:
        """The label file of a frame: a test sequence has its own."""
        own = self.labels.parent / f"{Path(name).parts[0]}.txt"
        return own if own.is_file() else self.labels


def _refuse_first_release(root: Path, split: str) -> None:
    """Refuses the release of 2014: ``train.txt`` and the test sequences beside one folder ``Depth``.

    The authors of DeepPrior++, whose reader is for that release, say that the formats of the two differ
    (github.com/moberweger/deep-prior-pp, issue 32).
    """
    for folder in (root / name for name in _FOLDERS[split]):
        first = folder / "train.txt"
        if first.is_file() and not (folder / "labels.txt").is_file():
            raise DatasetError(
                f"{first}: the labels of ICVL's first release (2014), whose format differs; expected the second "
                "release: Training/labels.txt, Testing/test_seq_1.txt and Testing/test_seq_2.txt. Download it again"
            )
        if (folder / _LABELS[split][0]).is_file():
            return


def _is_recorded(name: str) -> bool:
    """Recorded sequences are named by their date; rotated copies lie in folders named by the angle, such as 22-5."""
    top = name.split("/", 1)[0]
    return top.startswith("test_seq") or (top.isdigit() and len(top) >= 8)
