# SPDX-License-Identifier: MIT
"""NYU hand pose dataset (Tompson et al. 2014): ``train`` and ``test`` folders of PNG frames with ``joint_data.mat``."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from torch import Tensor

from poseren_ext.datasets.base import DatasetError, DepthDataset, PathLike, first_existing, require_one_of
from poseren_ext.datasets.centers import Centers
from poseren_ext.datasets.info import DatasetInfo
from poseren_ext.datasets.sample import Hand
from poseren_ext.geometry.camera import CAMERAS
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.io.depth_files import DepthFrame
from poseren_ext.io.mat_files import read_mat

EVALUATED = (0, 3, 6, 9, 12, 15, 18, 21, 24, 25, 27, 30, 31, 32)
"""The 14 of the 36 labelled joints that everybody evaluates on, in their public order."""

_FIRST_TEST_SUBJECT = 2440  # frames; the other test frames are of a second person


class NYU(DepthDataset):
    """NYU's frontal view (camera 1), 14 joints.

    Centres from the image are those of the synthetic depth images (``synthdepth_1_*.png``), which show nothing but the
    hand: the real ones show the whole person, and thresholds cannot tell the hand from the rest.

    Args:
        root: the folder that holds ``train`` and ``test``.
        split: "train" (72757 frames) or "test" (8252).
        centers: "image", a ``Path`` to a text file, or an array [N, 3].
        hand: "left" mirrors the frames; None leaves the right hands that were recorded.
        strict: look for every frame now, and refuse missing and unlabelled ones.

    Raises:
        FileNotFoundError: The folder is not NYU's, or a frame is missing.
        DatasetError: ``joint_data.mat`` is damaged or has another shape, or frames have no labels.
        ImportError: scipy, which reads the label file, is not installed.
    """

    info = DatasetInfo(
        name="nyu",
        camera=CAMERAS["nyu"],
        skeleton=SKELETONS["nyu14"],
        thresholds=(500.0, 1300.0),  # on the synthetic depth images
        splits={"train": (72757,), "test": (8252,)},
        marks=("train/joint_data.mat", "test/joint_data.mat"),
        results=("table1", "fig5"),
    )

    def __init__(
        self,
        root: PathLike,
        split: Literal["train", "test"] = "train",
        *,
        centers: Centers = "image",
        hand: Hand | None = None,
        strict: bool = True,
    ) -> None:
        require_one_of(split, "split", ("train", "test"))
        root = Path(root)
        labels = first_existing([root / split / "joint_data.mat"], "NYU's labels")
        uvd = read_joint_data(labels, "joint_uvd")
        names = [f"{split}/depth_1_{number:07d}.png" for number in range(1, len(uvd) + 1)]
        subjects = ["train" if split == "train" else _test_subject(frame) for frame in range(len(uvd))]
        super().__init__(root, names, uvd, subjects, centers=centers, hand=hand, strict=strict, labels=labels)

    def _is_frame(self, file: str) -> bool:
        return file.startswith("depth_1_") and file.endswith(".png")

    def _region(self, index: int, frame: DepthFrame) -> tuple[DepthFrame, Tensor | None]:
        path = self.path(index)
        synthetic = path.with_name(f"synth{path.name}")
        if not synthetic.is_file():
            raise FileNotFoundError(
                f"{synthetic}: no such file; NYU's centres are taken from its synthetic depth images. Unpack them too, "
                "or give centres as a file or an array"
            )
        return self._sized(synthetic), None


def read_joint_data(path: Path, variable: Literal["joint_uvd", "joint_xyz"]) -> npt.NDArray[np.float64]:
    """The frontal view's 14 evaluated joints of a ``joint_data.mat``.

    Args:
        path: the file.
        variable: "joint_uvd" (pixels, pixels, mm) or "joint_xyz" (mm, with y up).

    Returns:
        float64 [N, 14, 3].

    Raises:
        DatasetError: The file is damaged, or has no such array [3, N, 36, 3].
        ImportError: scipy is not installed.
    """
    _, array = read_mat(path, variable, DatasetError)
    if array.ndim != 4 or array.shape[0] != 3 or array.shape[1] == 0 or array.shape[2:] != (36, 3):
        raise DatasetError(
            f"{path}: {variable} has shape {list(array.shape)}; expected [3 views, frames, 36 joints, 3]"
        )
    joints = np.asarray(array[0][:, EVALUATED], np.float64)
    if not np.isfinite(joints).all():
        frame = int(np.argwhere(~np.isfinite(joints))[0, 0])
        raise DatasetError(f"{path}: {variable} of frame {frame + 1} holds NaN or infinity; expected numbers")
    return joints


def _test_subject(frame: int) -> str:
    return "test-1" if frame < _FIRST_TEST_SUBJECT else "test-2"
