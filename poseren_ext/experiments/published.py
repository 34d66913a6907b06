# SPDX-License-Identifier: MIT
"""The experiments on published predictions: one folder per dataset, with its label file and predictions/SYSTEM.txt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from poseren_ext.datasets.centers import read_centers
from poseren_ext.datasets.registry import dataset_info
from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.evaluation.labelled_frames import frame_errors
from poseren_ext.evaluation.metrics import Evaluation, evaluate
from poseren_ext.experiments.report import Report, Table
from poseren_ext.geometry.skeleton import SKELETONS, Skeleton
from poseren_ext.io.depth_files import read_depth
from poseren_ext.io.pose_files import Poses, read_poses, require_uvd
from poseren_ext.plotting import plot_cascade, plot_comparison, plot_qualitative, plot_viewpoints

TABLE_1: tuple[tuple[str, float, float | None], ...] = (
    ("HandsDeep", 19.73, 9.81),
    ("Feedback", 15.97, 8.20),
    ("DeepModel", 16.90, 8.76),
    ("Mask R-CNN", 27.61, 8.25),
    ("JTSC", 16.80, 8.02),
    ("Madadi et al.", 15.60, None),
    ("Lie-X", 14.51, 7.48),
    ("REN-4x6x6", 13.39, 6.78),
    ("REN-9x6x6", 12.69, 6.32),
    ("Pose-REN", 11.81, 5.53),
)
"""System, 3D error (mm), 2D error (px) on NYU."""

TABLE_2 = {"nyu": (11.869, 11.811), "icvl": (6.932, 6.793), "msra": (8.728, 8.649)}
"""Mean 3D error (mm) without and with the hand's structure."""

MEAN_POSE_AFTER_TEN_STAGES = 17.708
"""Mean 3D error (mm) on NYU of the standard model started from the mean pose (section 4.4.4)."""

LABELS, LIST, CENTERS = "test_groundtruth_uvd.txt", "test_list.txt", "test_centers_uvd.txt"
_MOST = 7  # frames in a picture


def evaluate_folder(data: Path, dataset: str, *, systems: Sequence[str] | None = None) -> list[Evaluation]:
    """Evaluate the published predictions of a dataset, the largest error first.

    Args:
        data: folder with DATASET/test_groundtruth_uvd.txt and DATASET/predictions/*.txt.
        dataset: nyu, icvl or msra.
        systems: evaluate only these systems, if their files exist.

    Raises:
        FileNotFoundError: The folder, the labels or the predictions do not exist.
    """
    folder, info = data / dataset, dataset_info(dataset)
    skeleton, camera = info.skeleton, info.camera
    files = sorted((folder / "predictions").glob("*.txt"))
    files = [file for file in files if systems is None or file.stem in systems]
    if not (folder / LABELS).is_file() or not files:
        raise FileNotFoundError(
            f"{folder}: expected {LABELS} and predictions/SYSTEM.txt, the published files of {dataset.upper()}. To run "
            "on synthetic hands instead leave --data out"
        )
    labels = read_poses(folder / LABELS, joints=len(skeleton.joints))
    results = []
    for file in files:
        poses = read_poses(file, joints=len(skeleton.joints), frames=len(labels))
        if camera.width is not None and camera.height is not None:
            require_uvd(file, poses, camera.width, camera.height)
        results.append(evaluate(poses, labels, camera, skeleton=skeleton, name=file.stem, viewpoint=info.by_viewpoint))
    return sorted(results, key=lambda one: -one.mean_3d)


def read_predictions(data: Path, dataset: str, system: str) -> Poses:
    """Published predictions of one system, u, v, d [N, J, 3].

    Raises:
        FileNotFoundError: The file does not exist.
    """
    return read_poses(
        data / dataset / "predictions" / f"{system}.txt", joints=dataset_info(dataset).skeleton.num_joints
    )


def _source(dataset: str, results: Sequence[Evaluation]) -> str:
    return f"published predictions of {len(results)} systems on {dataset.upper()} ({results[0].frames} frames)"


def _errors(results: Sequence[Evaluation]) -> Table:
    rows = [
        [one.name, f"{one.mean_3d:.3f}", f"{one.mean_2d:.3f}", *(f"{one.success(t):.2f}" for t in (20.0, 40.0))]
        for one in results
    ]
    columns = ["system", "3D (mm)", "2D (px)", "frames within 20 mm (%)", "within 40 mm (%)"]
    return Table("Mean errors, and frames whose largest joint error is within a threshold", columns, rows)


def _report(name: str, title: str, dataset: str, results: Sequence[Evaluation], skeleton: Skeleton) -> Report:
    report = Report(name, title, _source(dataset, results), tables=[_errors(results)])
    report.data["systems"] = [asdict(one) for one in results]
    heading = f"{dataset.upper()}, {results[0].frames} frames"
    report.figures["comparison"] = plot_comparison(results, skeleton=skeleton, title=heading)
    return report


def table1(data: Path) -> Report:
    """Table 1 of the paper, with the numbers of the paper and those computed from the published files."""
    results = {one.name: one for one in evaluate_folder(data, "nyu")}
    rows = []
    for system, paper_3d, paper_2d in TABLE_1:
        ours = results.get(system)
        rows.append(
            [
                *(system, f"{paper_3d:.2f}", f"{ours.mean_3d:.4f}" if ours else "no file"),
                *("-" if paper_2d is None else f"{paper_2d:.2f}", f"{ours.mean_2d:.4f}" if ours else "no file"),
            ]
        )
    columns = ["system", "3D, paper", "3D, here", "2D, paper", "2D, here"]
    report = Report("table1", "Table 1: mean errors on NYU", _source("nyu", list(results.values())))
    report.tables.append(Table("3D in mm, 2D in pixels: the paper's, and of its published predictions", columns, rows))
    report.data["systems"] = [asdict(one) for one in results.values()]
    missing = [system for system, *_ in TABLE_1 if system not in results]
    if missing:
        report.notes.append(
            f"No prediction file is published for {', '.join(missing)}: the paper's numbers stand alone."
        )
    apart = [s for s, error, _ in TABLE_1 if s in results and abs(results[s].mean_3d - error) > 0.01]
    for system in apart:
        paper = next(error for name, error, _ in TABLE_1 if name == system)
        here = results[system].mean_3d
        report.notes.append(f"{system}: its published predictions give {here:.2f} mm, the paper prints {paper:.2f} mm.")
    others = sorted(set(results) - {system for system, *_ in TABLE_1})
    if others:
        extra = ", ".join(f"{name} {results[name].mean_3d:.2f} mm" for name in others)
        report.notes.append(f"Published predictions that the paper's table does not list: {extra}.")
    return report


def comparison(name: str, number: int, dataset: str, data: Path) -> Report:
    """Figures 5, 6 and 7: success rates and per-joint errors of all systems."""
    results = evaluate_folder(data, dataset)
    title = f"Figure {number}: comparison with the state of the art on {dataset.upper()}"
    return _report(name, title, dataset, results, dataset_info(dataset).skeleton)


def fig8(data: Path) -> Report:
    """Mean error over the hand's yaw and pitch on MSRA."""
    results = evaluate_folder(data, "msra")
    report = Report("fig8", "Figure 8: error over the viewpoint on MSRA", _source("msra", results))
    report.tables.append(_errors(results))
    report.figures["viewpoints"] = plot_viewpoints(results, title="MSRA")
    report.data["systems"] = [asdict(one) for one in results]
    return report


def fig9(data: Path) -> Report:
    """Grid regions, from published predictions; those of the pose-guided regions are not published."""
    results = evaluate_folder(data, "nyu", systems=("REN-4x6x6", "REN-9x6x6", "Pose-REN"))
    title = "Figure 9: pose-guided regions against a grid, on NYU"
    report = _report("fig9", title, "nyu", results, SKELETONS["nyu14"])
    report.notes.append(
        "The pose-guided 4x6x6 and 9x6x6 variants have no published predictions; Pose-REN (11 guided regions of 7x7) "
        "stands for them. Leave --data out to train all four on synthetic hands."
    )
    return report


def fig11(data: Path) -> Report:
    """The initial poses, and Pose-REN started from the first of them."""
    names = ("DeepPrior", "Feedback", "DeepModel", "Init-CNN", "Pose-REN")
    results = evaluate_folder(data, "nyu", systems=names)
    report = _report("fig11", "Figure 11: other initial poses, on NYU", "nyu", results, SKELETONS["nyu14"])
    report.notes.append(
        "Published are the initial poses and the result from Init-CNN (Pose-REN); the results from DeepPrior, Feedback "
        "and DeepModel are not. Leave --data out to refine simulated initial poses on synthetic hands."
    )
    return report


def table2(data: Path) -> Report:
    """With and without the structure of the hand, for the networks with published predictions."""
    report = Report("table2", "Table 2: with and without the hand's structure", "published predictions")
    rows = []
    for dataset, (without, structured) in TABLE_2.items():
        try:
            (ours,) = evaluate_folder(data, dataset, systems=("Pose-REN",))
            here = f"{ours.mean_3d:.3f}"
            report.data[dataset] = asdict(ours)
        except FileNotFoundError:
            here = "no file"
        rows.append([dataset.upper(), f"{without:.3f}", f"{structured:.3f}", here])
    columns = ["dataset", "without, paper (mm)", "with, paper (mm)", "with, here (mm)"]
    report.tables.append(Table("Mean 3D error", columns, rows))
    if all(row[-1] == "no file" for row in rows):
        raise FileNotFoundError(
            f"{data}: no predictions/Pose-REN.txt of any dataset; leave --data out for synthetic hands"
        )
    report.notes.append(
        "No predictions of the variant without structure are published: leave --data out to train both."
    )
    return report


@dataclass(frozen=True)
class PublishedFrames:
    """The available frames with labels and predictions.

    Attributes:
        names: names of the frames.
        skeleton: skeleton of the dataset.
        frames: the frames and their labels.
        poses: predictions u, v, d, by name of the system.
    """

    names: Sequence[str]
    skeleton: Skeleton
    frames: FrameBatch
    poses: dict[str, Tensor]

    @classmethod
    def read(cls, data: Path, dataset: str, systems: Sequence[str]) -> PublishedFrames:
        """Frames that `test_list.txt` names and that are in the folder of the dataset, and their predictions.

        Raises:
            FileNotFoundError: No frame is found, or the file of a system does not exist.
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
        uvd = torch.from_numpy(labels)[index]
        frames = FrameBatch(depth, camera.tensor().expand(len(index), 4), center, uvd, index)
        poses = {name: torch.from_numpy(read_predictions(data, dataset, name))[index] for name in systems}
        return cls([path.name for _, path in chosen], skeleton, frames, poses)

    def normalized(self, uvd: Tensor) -> Tensor:
        """Joints in crop coordinates."""
        return self.frames.normalized(uvd.float())


def _find(folder: Path, name: str) -> Path | None:
    """Path of a listed frame, by its full name or its last part."""
    return next((path for path in (folder / name, folder / Path(name).name) if path.is_file()), None)


def fig13(data: Path) -> Report:
    """First and last pose of the cascade; the stages in between are not published."""
    shown = PublishedFrames.read(data, "nyu", ("Init-CNN", "Pose-REN"))
    stages = torch.stack([shown.normalized(uvd) for uvd in shown.poses.values()])
    errors = torch.stack([frame_errors(uvd, shown.frames.uvd, shown.frames.camera) for uvd in shown.poses.values()])
    report = Report("fig13", "Figure 13: the stages of the cascade", _drawn(shown))
    report.figures["stages"] = plot_cascade(
        shown.frames.crop(192),
        stages,
        shown.skeleton,
        truth=shown.normalized(shown.frames.uvd),
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
    shown = PublishedFrames.read(data, "nyu", ("REN-9x6x6", "Pose-REN"))
    report = Report("fig14", "Figure 14: qualitative results", _drawn(shown))
    rows = {name: shown.normalized(uvd) for name, uvd in (shown.poses | {"truth": shown.frames.uvd}).items()}
    report.figures["qualitative"] = plot_qualitative(shown.frames.crop(192), rows, shown.skeleton)
    return report


def _drawn(shown: PublishedFrames) -> str:
    return f"published predictions on NYU, drawn on the recorded frames that are there: {', '.join(shown.names)}"


EXPERIMENTS: dict[str, Callable[[Path], Report]] = {
    "table1": table1,
    "fig5": partial(comparison, "fig5", 5, "nyu"),
    "fig6": partial(comparison, "fig6", 6, "icvl"),
    "fig7": partial(comparison, "fig7", 7, "msra"),
    "fig8": fig8,
    "fig9": fig9,
    "fig11": fig11,
    "table2": table2,
    "fig13": fig13,
    "fig14": fig14,
}
"""Name -> function that runs the experiment on a folder of published predictions."""
