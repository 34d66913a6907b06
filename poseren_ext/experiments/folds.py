# SPDX-License-Identifier: MIT
"""MSRA's protocol: nine models, each trained without one subject, whose predictions are joined (paper, section 4.1)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch

from poseren_ext.datasets.base import Labels, PathLike
from poseren_ext.datasets.msra import MSRA
from poseren_ext.datasets.packs.writer import write_pack
from poseren_ext.datasets.registry import open_dataset
from poseren_ext.evaluation.labelled_frames import DatasetTest
from poseren_ext.evaluation.methods import InitPose, Refined
from poseren_ext.evaluation.metrics import Evaluation, evaluate
from poseren_ext.experiments.report import Report, Table, report_files
from poseren_ext.io.pose_files import Poses, read_poses, write_poses
from poseren_ext.models import load
from poseren_ext.plotting import plot_comparison, plot_viewpoints
from poseren_ext.training import TrainConfig
from poseren_ext.training.run_folder import remove_run
from poseren_ext.training.trainer import Trainer, Watch

PREDICTIONS, LABELS = "predictions.txt", "labels.txt"
_NAME = "folds"


def run_folds(
    root: PathLike,
    out: Path,
    config: TrainConfig,
    *,
    stages: int = 3,
    device: str = "cpu",
    workers: int = 0,
    watch: Callable[[int], Watch] | None = None,
    skip: Callable[[str, Exception], None] | None = None,
) -> Report:
    """Trains, predicts and joins the nine folds; an interrupted run is resumed.

    Writes to `out`: ``P0/`` to ``P8/`` (the training of the model that has not seen that subject), ``P0.txt`` to
    ``P8.txt`` (its predictions on the subject), and ``predictions.txt`` and ``labels.txt`` of all nine in order.

    Args:
        root: the folder of MSRA, which holds ``P0`` to ``P8``.
        out: output folder; created if it does not exist.
        config: configuration of the training; data, skeleton and hand are replaced.
        stages: refining stages at test time.
        device: compute device.
        workers: processes that decode frames.
        watch: returns the training callback of a subject.
        skip: called with each skipped training frame and the reason; None raises instead.

    Raises:
        FileNotFoundError: The folder is not MSRA's, or a frame is missing.
        DatasetError: A file is damaged.
        ValueError: A fold was started with another configuration.
    """
    out.mkdir(parents=True, exist_ok=True)
    joined, labels = [], []
    for subject in range(MSRA.info.subjects):
        frames = open_dataset(root, "msra", "test", subject=subject)
        labels.append(frames.uvd)
        path = out / f"P{subject}.txt"
        if not path.is_file():
            model_file = out / f"P{subject}" / "model.safetensors"
            if not model_file.is_file():
                _train(root, out, config, subject, device, workers, watch(subject) if watch else None, skip)
            model = load(model_file).to(device)
            method = Refined(InitPose(model), model, stages)
            test = DatasetTest(frames, model.config.cube, torch.device(device))
            write_poses(path, torch.cat([method.estimate(batch).cpu() for batch in test.batches()]).numpy())
        joined.append(read_poses(path, joints=MSRA.info.skeleton.num_joints, frames=len(frames)))
    predicted, truth = np.concatenate(joined), np.concatenate(labels)
    write_poses(out / PREDICTIONS, predicted)
    write_poses(out / LABELS, truth)
    return _report(joined, labels, predicted, truth, config, stages)


def prepare_folder(out: Path, *, overwrite: bool, resume: bool) -> None:
    """Refuses a folder with files of an earlier call of `run_folds`, or deletes them.

    Args:
        out: the folder.
        overwrite: delete the files of the earlier call, and only those.
        resume: keep them, so that `run_folds` continues.

    Raises:
        FileExistsError: There are such files, and neither is True.
        ValueError: Both are True.
    """
    if overwrite and resume:
        raise ValueError("overwrite and resume are both True; the folds are continued or replaced")
    subjects = range(MSRA.info.subjects)
    files = [out / name for name in (PREDICTIONS, LABELS, *(f"P{subject}.txt" for subject in subjects))]
    files += [*report_files(out, _NAME), *(out / f"without-P{subject}.pack" for subject in subjects)]
    runs = [out / f"P{subject}" for subject in subjects]
    found = [path for path in (*files, *runs) if path.exists()]
    if resume or not found:
        return
    if not overwrite:
        raise FileExistsError(
            f"{found[0]} exists; resume=True continues the folds in {out}, overwrite=True replaces them, or choose "
            "another folder"
        )
    for path in files:
        path.unlink(missing_ok=True)
    for run in runs:
        remove_run(run)


def _train(
    root: PathLike,
    out: Path,
    config: TrainConfig,
    subject: int,
    device: str,
    workers: int,
    watch: Watch | None,
    skip: Callable[[str, Exception], None] | None,
) -> None:
    """Trains one fold on a pack of the other eight subjects, and removes the pack afterwards because it is large."""
    pack, folder = out / f"without-P{subject}.pack", out / f"P{subject}"
    if not pack.is_file():
        frames = open_dataset(root, "msra", "train", subject=subject)
        write_pack(frames, pack, split=f"train {subject}", cube=config.cube, workers=workers, skip=skip)
    fold = replace(config, data=str(pack), skeleton=MSRA.info.skeleton.name, hand=MSRA.info.hand)
    begun = (folder / "checkpoint.safetensors").is_file()
    Trainer(fold, folder, resume=begun, device=device, watch=watch).run()
    pack.unlink()


def _report(
    joined: list[Poses],
    labels: list[Labels],
    predicted: Poses,
    truth: Labels,
    config: TrainConfig,
    stages: int,
) -> Report:
    info = MSRA.info

    def measured(name: str, poses: Poses, target: Labels, viewpoint: bool) -> Evaluation:
        return evaluate(
            poses, target.astype(np.float64), info.camera, skeleton=info.skeleton, name=name, viewpoint=viewpoint
        )

    folds = [measured(f"P{i}", *pair, False) for i, pair in enumerate(zip(joined, labels, strict=True))]
    whole = measured("all subjects", predicted, truth, True)
    rows = [[one.name, str(one.frames), f"{one.mean_3d:.3f}", f"{one.mean_2d:.3f}"] for one in (*folds, whole)]
    source = f"MSRA, {whole.frames} frames, nine models of the recipe {config.recipe}, {stages} stages"
    report = Report(_NAME, "MSRA, leaving one subject out", source)
    report.tables.append(
        Table("Each subject, by the model that has not seen it", ["subject", "frames", "3D (mm)", "2D (px)"], rows)
    )
    report.figures["comparison"] = plot_comparison(
        [whole], skeleton=info.skeleton, title=f"MSRA, {whole.frames} frames"
    )
    report.figures["viewpoints"] = plot_viewpoints([whole], title="MSRA")
    report.data["systems"] = [asdict(one) for one in (*folds, whole)]
    return report
