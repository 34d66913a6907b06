# SPDX-License-Identifier: MIT
"""MSRA hand gesture dataset (Sun et al. 2015): 9 subjects x 17 gestures of ``.bin`` frames, a ``joint.txt`` each."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt

from poseren_ext.datasets.base import DatasetError, DepthDataset, PathLike, first_existing, require_one_of
from poseren_ext.datasets.centers import Centers
from poseren_ext.datasets.info import DatasetInfo
from poseren_ext.datasets.sample import Hand
from poseren_ext.geometry.camera import CAMERAS, xyz_to_uvd
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.io.number_tables import read_lines, read_number_table

SUBJECTS = tuple(f"P{number}" for number in range(9))
GESTURES = ("1", "2", "3", "4", "5", "6", "7", "8", "9", "I", "IP", "L", "MP", "RP", "T", "TIP", "Y")
VERSIONS = {76375: "the smaller of the two versions in circulation", 76391: "the larger of the two in circulation"}
"""What is known of a whole dataset by its number of frames."""

_TO_CAMERA = np.array([1.0, -1.0, -1.0])  # the files have y up and z towards the camera


class MSRA(DepthDataset):
    """MSRA, 21 joints of right hands; evaluated by leaving one subject out.

    Args:
        root: the folder that holds ``P0`` to ``P8``.
        split: "test": the subject that is left out; "train": the other eight; "all": all nine.
        subject: which one is left out, 0 to 8.
        centers: "image", a ``Path`` to a text file, or an array [N, 3]; in the order of subjects, gestures and frames.
        hand: "left" mirrors the frames; None leaves the right hands that were recorded.
        strict: look for every frame now, and refuse missing and unlabelled ones.

    Raises:
        FileNotFoundError: another folder than MSRA's, a missing gesture, a missing frame.
        DatasetError: A ``joint.txt`` is damaged or has another number of frames than its first line says, or frames
            have no labels.
    """

    info = DatasetInfo(
        name="msra",
        camera=CAMERAS["msra"],
        skeleton=SKELETONS["msra21"],
        thresholds=(10.0, 1000.0),
        splits={"all": tuple(VERSIONS)},
        marks=("P0", "P1"),
        suffix="_depth.bin",
        subjects=len(SUBJECTS),
        by_viewpoint=True,
        versions=VERSIONS,
        results=("fig7", "fig8"),
    )

    def __init__(
        self,
        root: PathLike,
        split: Literal["train", "test", "all"] = "train",
        *,
        subject: int = 0,
        centers: Centers = "image",
        hand: Hand | None = None,
        strict: bool = True,
    ) -> None:
        require_one_of(split, "split", ("train", "test", "all"))
        if subject not in range(len(SUBJECTS)):
            raise ValueError(f"subject is {subject!r}; expected 0 to 8, the one that is left out of the training")
        root = Path(root)
        left_out = SUBJECTS[subject]
        chosen = [name for name in SUBJECTS if split == "all" or (name == left_out) == (split == "test")]
        names, subjects, parts = [], [], []
        for person in chosen:
            for gesture in GESTURES:
                what = "MSRA's labels: 9 subjects P0..P8 with 17 gestures each"
                xyz = read_joints(first_existing([root / person / gesture / "joint.txt"], what))
                names += [f"{person}/{gesture}/{number:06d}_depth.bin" for number in range(len(xyz))]
                subjects += [person] * len(xyz)
                parts.append(xyz)
        labels = root / chosen[0] / GESTURES[0] / "joint.txt" if len(chosen) == 1 else root / "P*" / "*" / "joint.txt"
        uvd = xyz_to_uvd(np.concatenate(parts), CAMERAS["msra"])
        super().__init__(root, names, uvd, subjects, centers=centers, hand=hand, strict=strict, labels=labels)

    def label_file(self, name: str) -> Path:
        """The ``joint.txt`` beside a frame."""
        return self.folder / Path(name).parent / "joint.txt"


def read_joints(path: Path) -> npt.NDArray[np.float64]:
    """Joints of a ``joint.txt``: the number of frames, then 63 numbers per frame.

    Returns:
        float64 [N, 21, 3] mm, camera frame (y and z negated).

    Raises:
        DatasetError: The file is not such text, has another number of lines than its first line says, or holds a joint
            behind the camera.
    """
    what = "MSRA's joint.txt: the number of frames, then 63 numbers (21 joints x y z) per frame"
    lines = read_lines(path, what, DatasetError)
    try:
        count = int(lines[0])
    except ValueError:
        raise DatasetError(f"{path}: does not begin with a number of frames; expected {what}") from None
    table = read_number_table(
        path, lines, what="63 numbers (21 joints x y z)", error=DatasetError, columns=63, header=1, skip_empty=True
    )
    if len(table.values) != count:
        raise DatasetError(
            f"{path}: {len(table.values)} lines of joints, but its first line says {count}; is the file truncated?"
        )
    if count == 0:
        raise DatasetError(f"{path}: no frames; expected about 500")
    joints = table.values.reshape(count, 21, 3) * _TO_CAMERA
    behind = (joints[..., 2] <= 0).any(1)
    if behind.any():
        line = int(table.lines[np.flatnonzero(behind)[0]])
        raise DatasetError(f"{path}, line {line}: a joint is behind the camera; expected negative z, as distributed")
    return np.asarray(joints, np.float64)
