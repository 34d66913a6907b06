# SPDX-License-Identifier: MIT
"""The known datasets by name, and which of them a folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from poseren_ext.datasets.base import DatasetError, DepthDataset, PathLike
from poseren_ext.datasets.centers import Centers
from poseren_ext.datasets.folder import Folder, is_folder
from poseren_ext.datasets.hands17 import HANDS17
from poseren_ext.datasets.icvl import ICVL
from poseren_ext.datasets.info import DatasetInfo
from poseren_ext.datasets.msra import MSRA
from poseren_ext.datasets.nyu import NYU
from poseren_ext.datasets.sample import Hand

Reader = type[NYU] | type[ICVL] | type[MSRA] | type[HANDS17]

FOLDER = Folder.name

DATASETS: dict[str, Reader] = {reader.info.name: reader for reader in (NYU, ICVL, MSRA, HANDS17)}
"""Readers of the published datasets; the facts about one are ``DATASETS[name].info``."""
NAMES = (*DATASETS, FOLDER)
"""All that a dataset can be called; "folder" is a folder of one's own frames."""


def dataset_name(given: str) -> str:
    """The one of ``NAMES`` that a name in any case stands for.

    Raises:
        ValueError: The name is unknown.
    """
    name = given.strip().lower()
    if name not in NAMES:
        raise ValueError(f"dataset is {given!r}; expected one of {', '.join(NAMES)}")
    return name


def dataset_info(given: str) -> DatasetInfo:
    """The facts about a published dataset, by its name in any case.

    Raises:
        ValueError: The name is unknown, or "folder", whose facts are in its files.
    """
    name = dataset_name(given)
    if name == FOLDER:
        raise ValueError(
            f"dataset is {given!r}, whose camera and joints are in its files; expected a published dataset"
        )
    return DATASETS[name].info


def splits_of(name: str) -> tuple[str, ...]:
    """The splits that a dataset comes in."""
    return ("all",) if name == FOLDER else tuple(DATASETS[name].info.splits)


def detect(root: PathLike) -> str:
    """The one of ``NAMES`` that a folder holds.

    Raises:
        FileNotFoundError: There is no such folder.
        DatasetError: The folder holds none of them; the message names a folder nearby that does.
    """
    root = Path(root)
    if not root.is_dir():
        raise FileNotFoundError(f"{root}: no such folder")
    found = _held_by(root)
    if found is not None:
        return found
    nearby = [root.resolve().parent, *sorted(path for path in root.iterdir() if path.is_dir())]
    hint = next((f" {path} holds {name}: did you mean that?" for path in nearby if (name := _held_by(path))), "")
    marks = "; ".join(f"{name}: {' or '.join(reader.info.marks)}" for name, reader in DATASETS.items())
    marks += "; frames of your own: camera.txt or recording.json"
    raise DatasetError(f"{root}: not a known dataset; expected one of these in it: {marks}.{hint}")


def _held_by(folder: Path) -> str | None:
    if is_folder(folder):  # before ICVL, which has labels.txt too
        return FOLDER
    for name, reader in DATASETS.items():
        if any((folder / mark).exists() for mark in reader.info.marks):
            return name
    return None


def open_dataset(
    root: PathLike,
    name: str | None = None,
    split: str = "train",
    *,
    subject: int = 0,
    centers: Centers = "image",
    hand: Hand | None = None,
    skeleton: str | None = None,
    strict: bool = True,
) -> DepthDataset:
    """Opens one split of a dataset.

    Args:
        root: its folder.
        name: which dataset; None detects it.
        split: one of its splits.
        subject: the subject that is left out, where the dataset is evaluated that way (MSRA).
        centers: see ``Centers``.
        hand: the hand that the samples show; None keeps the recorded one.
        skeleton: joints of a folder's labels; None tells them from their number.
        strict: look for every frame now, and refuse missing and unlabelled ones.

    Raises:
        ValueError: The name or the split is unknown.
        FileNotFoundError: A folder or file is missing.
        DatasetError: as the reader says.
    """
    name = detect(root) if name is None else dataset_name(name)
    if name == FOLDER:
        return Folder(root, split, centers=centers, hand=hand, skeleton=skeleton, strict=strict)
    reader: Any = DATASETS[name]
    left_out = {"subject": subject} if reader.info.subjects else {}
    opened: DepthDataset = reader(root, split, centers=centers, hand=hand, strict=strict, **left_out)
    return opened
