# SPDX-License-Identifier: MIT
"""Files with any number of hands per frame: what `poseren predict --max-hands 2` and `render --scenes` write."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt

from poseren_ext.geometry.camera import Camera
from poseren_ext.io.joint_tables import JointTableError, read_joint_table


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
        path: a file of joints as `poseren_ext.io.joint_tables` reads it. A row without numbers stands for a frame
            without a hand.
        camera: intrinsics, for joints in uvd.
        order: names of the joints in the wanted order; default: as in the file.

    Returns:
        The hands by the name of the frame, and the names of the joints.

    Raises:
        FileNotFoundError: There is no such file.
        ModuleNotFoundError: A Parquet file is given and pyarrow is not installed.
        HandFileError: The file is damaged, has other joints, or a hand lacks one.
    """
    table = read_joint_table(path, HandFileError)
    names = list(order or table.names)
    try:
        xyz = table.xyz(names, camera)
    except JointTableError as error:
        raise HandFileError(str(error)) from None
    hands: dict[str, list[Hand]] = {}
    for row, joints in enumerate(xyz):
        found = hands.setdefault(table.frames[row], [])
        if np.isnan(table.joints[row]).all():
            continue
        if not np.isfinite(joints).all():
            raise HandFileError(f"{table.place(row)}: a joint is missing or not finite")
        found.append(Hand(joints, table.sides[row]))
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
