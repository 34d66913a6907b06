# SPDX-License-Identifier: MIT
"""CSV files with any number of hands per frame: what `poseren predict --max-hands 2` and `render --scenes` write."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from poseren_ext.geometry.camera import Camera, uvd_to_xyz
from poseren_ext.io.number_tables import read_lines


class HandFileError(ValueError):
    """The file is not one of hands, or does not fit another one."""


@dataclass(frozen=True)
class Hand:
    """A labelled or predicted hand.

    Attributes:
        joints: [J, 3], mm, camera frame.
        side: "left" or "right"; empty if unknown.
    """

    joints: npt.NDArray[np.float64]
    side: str = ""


def read_hands(
    path: Path, camera: Camera, order: Sequence[str] | None = None
) -> tuple[dict[str, list[Hand]], list[str]]:
    """The hands of each frame.

    Args:
        path: a CSV file with a header: `frame`, `side` or `hand`, and `NAME_u`, `NAME_v`, `NAME_d` (px, px, mm) or
            `NAME_x`, `NAME_y`, `NAME_z` (mm) of every joint; other columns are not read. A row without numbers stands
            for a frame without a hand.
        camera: intrinsics, for joints in uvd.
        order: names of the joints in the wanted order; default: as in the file.

    Returns:
        The hands by the name of the frame, and the names of the joints.

    Raises:
        FileNotFoundError: There is no such file.
        HandFileError: The file has other columns, or a value that is not a number.
    """
    rows = csv.reader(read_lines(path, "a CSV file with one line per hand", HandFileError))
    head = [name.replace(" ", "_") for name in next(rows)]
    ending = "_u" if any(name.endswith("_u") for name in head) else "_x"
    names = list(order) if order else [name.removesuffix(ending) for name in head if name.endswith(ending)]
    side = next((head.index(name) for name in ("side", "hand") if name in head), None)
    try:
        frame = head.index("frame")
        columns = [head.index(f"{name}_{axis}") for name in names for axis in ("uvd" if ending == "_u" else "xyz")]
    except ValueError as error:
        raise HandFileError(f"{path}: no column {str(error).split(' is')[0]}; the labels have its joint") from None
    if not names:
        raise HandFileError(f"{path}: no columns of joints; expected frame, side, NAME_u, NAME_v, NAME_d, ...")
    hands: dict[str, list[Hand]] = {}
    for number, row in enumerate(rows, start=2):
        try:
            found = hands.setdefault(row[frame], [])
            values = [row[column] if column < len(row) else "" for column in columns]
            if not any(values):
                continue
            joints = np.array([float(value) for value in values]).reshape(-1, 3)
        except (ValueError, IndexError) as error:
            raise HandFileError(f"{path}, line {number}: {error}") from None
        if not np.isfinite(joints).all():
            raise HandFileError(f"{path}, line {number}: a joint is missing or not finite")
        xyz = uvd_to_xyz(joints, camera) if ending == "_u" else joints
        found.append(Hand(xyz, row[side] if side is not None else ""))
    return hands, names


def same_frames(
    labels: dict[str, list[Hand]], predictions: dict[str, list[Hand]], path: Path
) -> tuple[list[list[Hand]], list[list[Hand]]]:
    """Labelled and predicted hands of the labelled frames; a frame without predictions has no predicted hand.

    Names of predicted frames may begin with folders that the labels lack.

    Raises:
        HandFileError: A predicted frame is not labelled.
    """
    parts = {PurePosixPath(name).parts: name for name in labels}
    found: dict[str, list[Hand]] = {}
    for name, hands in predictions.items():
        own = PurePosixPath(name.replace("\\", "/")).parts
        label = next((parts[own[i:]] for i in range(len(own)) if own[i:] in parts), None)
        if label is None:
            raise HandFileError(f"{path}: frame {name} is not labelled; expected frames such as {next(iter(labels))}")
        found[label] = hands
    return list(labels.values()), [found.get(name, []) for name in labels]
