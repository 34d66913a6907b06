# SPDX-License-Identifier: MIT
"""The known datasets by name, and which of them a folder holds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from poseren_ext.datasets.base import DatasetError, DepthDataset, PathLike
from poseren_ext.datasets.centers import Centers
from poseren_ext.datasets.hands17 import HANDS17
from poseren_ext.datasets.icvl import ICVL
from poseren_ext.datasets.info import DatasetInfo
from poseren_ext.datasets.msra import MSRA
from poseren_ext.datasets.nyu import NYU
from poseren_ext.datasets.sample import Hand

Reader = type[NYU] | type[ICVL] | type[MSRA] | type[HANDS17]

DATASETS: dict[str, Reader] = {reader.info.name: reader for reader in (NYU, ICVL, MSRA, HANDS17)}
"""The readers; the facts about a dataset are ``DATASETS[name].info``."""


def dataset_name(given: str) -> str:
    """The key of ``DATASETS`` that a name in any case stands for.

    Raises:
        ValueError: an unknown name.
    """
    name = given.strip().lower()
    if name not in DATASETS:
        raise ValueError(f"dataset is {given!r}; expected one of {', '.join(DATASETS)}")
    return name


def dataset_info(given: str) -> DatasetInfo:
    """The facts about a dataset, by its name in any case; raises as ``dataset_name`` does."""
    return DATASETS[dataset_name(given)].info


def detect(root: PathLike) -> str:
    """The key of ``DATASETS`` of the dataset that a folder holds.

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
    raise DatasetError(f"{root}: not a known dataset; expected one of these in it: {marks}.{hint}")


def _held_by(folder: Path) -> str | None:
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
        strict: look for every frame now, and refuse missing and unlabelled ones.

    Raises:
        ValueError: an unknown name or split.
        FileNotFoundError: a missing folder or file.
        DatasetError: as the reader says.
    """
    reader: Any = DATASETS[detect(root) if name is None else dataset_name(name)]
    left_out = {"subject": subject} if reader.info.subjects else {}
    opened: DepthDataset = reader(root, split, centers=centers, hand=hand, strict=strict, **left_out)
    return opened
