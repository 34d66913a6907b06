# SPDX-License-Identifier: MIT
"""Published predictions drawn on recorded frames (figures 13 and 14), where such frames lie beside the labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from poseren_ext.datasets.centers import read_centers
from poseren_ext.datasets.registry import dataset_info
from poseren_ext.evaluation.labelled_frames import frame_errors
from poseren_ext.evaluation.methods import FrameBatch
from poseren_ext.experiments.published import LABELS, read_predictions
from poseren_ext.experiments.report import Report
from poseren_ext.geometry.skeleton import Skeleton
from poseren_ext.io.depth_files import read_depth
from poseren_ext.io.pose_files import read_poses
from poseren_ext.plotting import plot_cascade, plot_qualitative

LIST, CENTERS = "test_list.txt", "test_centers_uvd.txt"
_MOST = 7  # frames in a picture


@dataclass(frozen=True)
class ShownFrames:
    """The frames that are there.

    Attributes:
        names: of the frames.
        skeleton: the dataset's joints.
        frames: their depth, centres and numbers.
        truth: labels u, v, d [N, J, 3].
        poses: predictions u, v, d, by the system's name.
    """

    names: Sequence[str]
    skeleton: Skeleton
    frames: FrameBatch
    truth: Tensor
    poses: dict[str, Tensor]

    @classmethod
    def read(cls, data: Path, dataset: str, systems: Sequence[str]) -> ShownFrames:
        """Frames that `test_list.txt` names and that lie in the dataset's folder, and what was predicted on them.

        Raises:
            FileNotFoundError: no frame, or no file of one of the systems.
        """
        folder, info = data / dataset, dataset_info(dataset)
        skeleton, camera = info.skeleton, info.camera
        labels = read_poses(folder / LABELS, joints=skeleton.num_joints)
        listed = (folder / LIST).read_text(encoding="ascii").split() if (folder / LIST).is_file() else []
        here = [(number, path) for number, name in enumerate(listed) if (path := _find(folder, name))]
        if not here:
            raise FileNotFoundError(
                f"{folder}: none of the frames that {LIST} names; put some beside it to draw predictions on, or leave "
                "--data out for synthetic hands"
            )
        evenly = torch.linspace(0, len(here) - 1, min(_MOST, len(here))).long().tolist()
        chosen = [here[i] for i in evenly]
        index = torch.tensor([number for number, _ in chosen])
        depth = torch.stack([torch.from_numpy(read_depth(path)).float() for _, path in chosen])
        center = torch.from_numpy(read_centers(folder / CENTERS, len(labels)))[index]
        frames = FrameBatch(depth, camera.tensor(), center, index)

        poses = {name: torch.from_numpy(read_predictions(data, dataset, name))[index] for name in systems}
        return cls([path.name for _, path in chosen], skeleton, frames, torch.from_numpy(labels)[index], poses)

    def normalized(self, uvd: Tensor) -> Tensor:
        """Joints as the crops show them."""
        return self.frames.normalized(uvd.float())


def _find(folder: Path, name: str) -> Path | None:
    """A listed frame, under its whole name or its last part."""
    return next((path for path in (folder / name, folder / Path(name).name) if path.is_file()), None)


def fig13(data: Path) -> Report:
    """What the cascade starts from and ends at; the stages between are not published."""
    shown = ShownFrames.read(data, "nyu", ("Init-CNN", "Pose-REN"))
    stages = torch.stack([shown.normalized(uvd) for uvd in shown.poses.values()])
    errors = torch.stack([frame_errors(uvd, shown.truth, shown.frames.camera) for uvd in shown.poses.values()])
    report = Report("fig13", "Figure 13: the stages of the cascade", _source(shown))
    report.figures["stages"] = plot_cascade(
        shown.frames.crop(192),
        stages,
        shown.skeleton,
        truth=shown.normalized(shown.truth),
        errors=errors,
        titles=list(shown.poses),
    )
    report.data["error_mm"] = dict(zip(shown.poses, errors.tolist(), strict=True))
    report.notes.append(
        "Published are the initial pose (Init-CNN) and the last stage's (Pose-REN), not those between; leave --data "
        "out to see every stage on synthetic hands, or give --dataset, --root and --weights."
    )
    return report


def fig14(data: Path) -> Report:
    """REN-9x6x6, Pose-REN and the labels on recorded frames."""
    shown = ShownFrames.read(data, "nyu", ("REN-9x6x6", "Pose-REN"))
    report = Report("fig14", "Figure 14: qualitative results", _source(shown))
    rows = {name: shown.normalized(uvd) for name, uvd in (shown.poses | {"truth": shown.truth}).items()}
    report.figures["qualitative"] = plot_qualitative(shown.frames.crop(192), rows, shown.skeleton)
    return report


def _source(shown: ShownFrames) -> str:
    return f"published predictions on NYU, drawn on the recorded frames that are there: {', '.join(shown.names)}"
