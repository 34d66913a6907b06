# SPDX-License-Identifier: MIT
"""Checks that a dataset's folder, or a pack, is complete and consistent."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from poseren_ext.datasets.base import DatasetError, DepthDataset, PathLike
from poseren_ext.datasets.nyu import NYU, read_joint_data
from poseren_ext.datasets.packs.dataset import PackedDataset
from poseren_ext.datasets.registry import dataset_name, detect, open_dataset, splits_of
from poseren_ext.geometry.camera import uvd_to_xyz
from poseren_ext.io.pose_files import require_uvd

_SHOWN = 5  # faults of a kind that are listed
_DEEPEST_SURFACE = 100.0  # mm in front of a joint, median: a hand is not that thick


@dataclass(frozen=True)
class CheckResult:
    """One line of the report.

    Attributes:
        kind: "found": as it should be; "odd": works, but look at it; "wrong": unfit for training.
        text: what, where, and what was expected.
    """

    kind: Literal["found", "odd", "wrong"]
    text: str


def check(
    path: PathLike,
    *,
    dataset: str | None = None,
    quick: bool = False,
    workers: int = 2,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[CheckResult]:
    """Checks a dataset's folder or a pack; yields each result as soon as it is known.

    Args:
        path: the folder or the pack.
        dataset: the expected dataset, a key of ``DATASETS``; by default any.
        quick: read three frames of each split instead of all.
        workers: threads that read frames.
        progress: called with frames read, and how many there are.

    Raises:
        ValueError: The dataset is unknown.
    """
    path = Path(path)
    dataset = None if dataset is None else dataset_name(dataset)
    if path.is_file():
        yield from _check_pack(path)
        return
    try:
        name = detect(path)
    except (DatasetError, FileNotFoundError) as error:
        yield CheckResult("wrong", str(error))
        return
    if dataset not in (None, name):
        yield CheckResult("wrong", f"{path}: holds {name}; expected {dataset}")
        return
    for split in splits_of(name):
        yield from _check_split(name, path, split, quick, workers, progress)


def _check_pack(path: Path) -> Iterator[CheckResult]:
    try:
        pack = PackedDataset(path)
    except DatasetError as error:
        yield CheckResult("wrong", str(error))
        return
    info = pack.info
    what = f"{info.dataset} {info.split}".strip()
    yield CheckResult(
        "found",
        f"{path}: a pack of {what}, {len(pack)} frames, {path.stat().st_size / 1e9:.3f} GB, for a cube of "
        f"{info.cube:g} mm and crops that reach {info.reach:.3f} half edges",
    )
    if info.rounding:
        yield CheckResult("odd", f"{path}: depth was rounded by up to {info.rounding:g} mm when it was packed")
    damaged = list(pack.damaged())
    if damaged:
        named = [f"{index} ({pack.names[index]})" for index in damaged]
        yield CheckResult("wrong", f"{path}: {len(damaged)} frames do not match their checksums: {_listed(named)}")
    else:
        yield CheckResult("found", f"{path}: every frame matches its checksum")


def _check_split(
    name: str, root: Path, split: str, quick: bool, workers: int, progress: Callable[[int, int], None] | None
) -> Iterator[CheckResult]:
    try:
        dataset = open_dataset(root, name, split, strict=False)
    except (DatasetError, FileNotFoundError) as error:
        absent = isinstance(error, FileNotFoundError) and len(splits_of(name)) > 1
        yield CheckResult("odd" if absent else "wrong", f"{name} {split}: {error}")
        return
    yield _count(dataset, split)
    missing, unlabelled = dataset.strays()
    if missing:
        yield CheckResult("wrong", f"{name} {split}: {len(missing)} labelled frames are missing: {_listed(missing)}")
    if unlabelled:
        yield CheckResult("wrong", f"{name} {split}: {len(unlabelled)} frames have no label: {_listed(unlabelled)}")
    yield from _check_labels(dataset, split)
    gone = set(missing)
    present = [index for index, frame in enumerate(dataset.names) if frame not in gone]
    if quick:
        present = sorted({present[0], present[len(present) // 2], present[-1]}) if present else []
    yield from _check_frames(dataset, split, present, workers, progress)


def _count(dataset: DepthDataset, split: str) -> CheckResult:
    count, official = len(dataset), dataset.info.splits[split]
    what = f"{dataset.info.name} {split}: {count} labelled frames"
    if official and count not in official:
        expected = " or ".join(map(str, official))
        return CheckResult("odd", f"{what}; the distributed split has {expected}: a part of it, or another version?")
    if count in dataset.info.versions:
        what += f", {dataset.info.versions[count]}; predictions and centres of the other version do not fit"
    return CheckResult("found", what)


def _check_labels(dataset: DepthDataset, split: str) -> Iterator[CheckResult]:
    labelled = dataset.uvd[np.isfinite(dataset.uvd).all((1, 2))]
    if not len(labelled):
        yield CheckResult("found", f"{dataset.info.name} {split}: no labels (they were not published)")
        return
    camera = dataset.camera
    try:
        require_uvd(dataset.labels, labelled.astype(np.float64), camera.width or 0, camera.height or 0)
    except ValueError as error:
        yield CheckResult("wrong", str(error))
    if isinstance(dataset, NYU):
        up = read_joint_data(dataset.labels, "joint_xyz")
        apart = np.abs(uvd_to_xyz(labelled.astype(np.float64), camera, y_up=True, check=False) - up).max()
        if not apart < 1.0:
            yield CheckResult(
                "odd", f"{dataset.labels}: joint_uvd and joint_xyz differ by up to {apart:.1f} mm; expected below 1"
            )


def _check_frames(
    dataset: DepthDataset,
    split: str,
    frames: Sequence[int],
    workers: int,
    progress: Callable[[int, int], None] | None,
) -> Iterator[CheckResult]:
    faults, without_centers, gaps = [], [], []

    def check_frame(index: int) -> tuple[str, str, npt.NDArray[np.float64]]:
        """What is wrong with a frame, why it has no centre, and how far joints lie behind the surface, mm."""
        try:
            frame = dataset.read(index)
        except (ValueError, OSError) as error:
            return str(error), "", np.empty(0)
        try:
            dataset.center(index, frame)
        except (ValueError, OSError) as error:
            return "", str(error), _gaps(dataset.uvd[index], frame)
        return "", "", _gaps(dataset.uvd[index], frame)

    with ThreadPoolExecutor(workers) as pool:
        for done, (fault, without_center, gap) in enumerate(pool.map(check_frame, frames), start=1):
            faults += [fault] * bool(fault)
            without_centers += [without_center] * bool(without_center)
            gaps.append(gap)
            if progress is not None:
                progress(done, len(frames))
    what = f"{dataset.info.name} {split}"
    if faults:
        yield CheckResult("wrong", f"{what}: {len(faults)} of {len(frames)} frames cannot be read: {_listed(faults)}")
    elif frames:
        yield CheckResult("found", f"{what}: {len(frames)} frames read")
    if without_centers:
        yield CheckResult("odd", f"{what}: {len(without_centers)} frames have no centre: {_listed(without_centers)}")
    joints = np.concatenate([np.empty(0), *gaps])
    if len(joints):
        middle = float(np.median(joints))
        plausible = 0 < middle < _DEEPEST_SURFACE
        text = f"{what}: joints lie {middle:.1f} mm behind the surface (median)"
        if not plausible:
            text += f"; expected 0 to {_DEEPEST_SURFACE:g}: labels of other frames, or another sign or unit?"
        yield CheckResult("found" if plausible else "wrong", text)


def _gaps(uvd: npt.NDArray[np.float32], frame: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """How far joints lie behind the pixel that they project to, mm; only where there is such a pixel."""
    if not np.isfinite(uvd).all():
        return np.empty(0)
    column, row = np.rint(uvd[:, 0]).astype(int), np.rint(uvd[:, 1]).astype(int)
    inside = (column >= 0) & (column < frame.shape[1]) & (row >= 0) & (row < frame.shape[0])
    surface = frame[row[inside], column[inside]].astype(np.float64)
    return np.asarray((uvd[inside, 2] - surface)[surface > 0], np.float64)


def _listed(items: Sequence[str]) -> str:
    more = f" and {len(items) - _SHOWN} more" if len(items) > _SHOWN else ""
    return ", ".join(items[:_SHOWN]) + more
