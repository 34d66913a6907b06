# SPDX-License-Identifier: MIT
"""Joints of many depth files into one file: resumable, one frame never stops the others, all cores in use."""

from __future__ import annotations

import os
import re
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import torch

from poseren_ext.inference.estimator import Estimator
from poseren_ext.inference.given_geometry import check_space, given_centers, looks_like_xyz
from poseren_ext.inference.hand_pose import HandPose
from poseren_ext.inference.input_frames import check_camera, read_frames
from poseren_ext.inference.prediction_file import PredictionFile, digest, weights_digest
from poseren_ext.inference.prediction_rows import FrameOutcome, Missing, PredictionRows, PredictionStream
from poseren_ext.io.depth_files import FrameFile
from poseren_ext.io.joint_files import Format, format_of
from poseren_ext.io.joint_layout import JointLayout
from poseren_ext.models import PoseREN

_AHEAD = 2  # batches per worker that wait for being written
_CHECKED = 8  # frames that given centres are compared with before a run
_POSITION = re.compile(r"^frame 0 | (?:in|of) frames? (?:0|\[0\])(?=[ ,:])")  # of a frame in a batch of its own

Progress = Callable[[int, int], None]
"""Called with the number of frames done and of all frames."""

Watch = Callable[[int, Sequence[FrameOutcome]], None]
"""Called with the outcomes of some frames in a row and the index of the first of them."""


@dataclass(frozen=True)
class PredictionReport:
    """What a run did.

    Attributes:
        frames: number of frames.
        resumed: how many of them an earlier run had done.
        missing: frames without a result, with the reason.
        uncertain: frames whose predicted error is above `UNCERTAIN_MM`, with that error in mm.
        missing_joints: joints of the chosen order that the skeleton does not have.
        seconds: duration.
    """

    frames: int
    resumed: int
    missing: dict[str, str]
    uncertain: dict[str, float]
    missing_joints: tuple[str, ...]
    seconds: float

    @classmethod
    def of(cls, file: PredictionRows, resumed: int, seconds: float) -> PredictionReport:
        """The report on a finished file."""
        missing = {file.names[index]: reason for index, reason in file.missing.items()}
        uncertain = {file.names[index]: error for index, error in file.uncertain.items()}
        return cls(len(file.names), resumed, missing, uncertain, file.missing_joints, seconds)


@dataclass
class FramePredictor:
    """Reads frames and estimates their joints, a range at a time; safe to call from several threads.

    Attributes:
        estimator: what estimates.
        frames: all frames.
        centers: u, v, d of each frame [N, 3]; None detects the hand.
        init_poses: initial poses in uvd [N, J, 3]; None takes the Init-CNN's.
        max_hands: with 2, all hands of each frame; only without centres and initial poses.
        size: height and width that all frames must have; found by `require_size`.
        center_name: what the centres are called in messages.
        init_name: what the initial poses are called in messages.
    """

    estimator: Estimator
    frames: Sequence[FrameFile]
    centers: npt.NDArray[Any] | None = None
    init_poses: npt.NDArray[Any] | None = None
    max_hands: int = 1
    size: tuple[int, int] | None = field(default=None)
    center_name: str = "center"
    init_name: str = "init_pose"

    def require_size(self, start: int = 0) -> None:
        """Take the size of the first frame that can be read.

        Raises:
            ValueError: the camera does not belong to frames of this size.
        """
        for frame in self.frames if self.size is None else ():
            try:
                image = frame.read()
            except (OSError, ValueError):
                continue
            check_camera(self.estimator.camera, read_frames(image, torch.device("cpu")))
            self.size = (image.shape[0], image.shape[1])
            return

    def check_given(self) -> None:
        """Compare centres and initial poses with the size of the frames, and centres with some of the frames.

        Raises:
            ValueError: they are in another unit or space, such as x, y, z.
        """
        height, width = self.size or (0, 0)
        for name, points in ((self.center_name, self.centers), (self.init_name, self.init_poses)):
            if points is not None and self.size is not None:
                check_space(name, points, width, height)
        if self.centers is None:
            return
        estimator, swapped, seen = self.estimator, 0, 0
        for index in range(0, len(self.frames), max(1, len(self.frames) // _CHECKED)):
            try:
                frames = read_frames(self.read(index)[None], estimator.device)
                center = given_centers(self.centers[index], frames)
            except (OSError, ValueError):
                continue
            seen += 1
            swapped += int(looks_like_xyz(center, frames, estimator.camera, estimator.cube, estimator.depth_unit))
        if swapped > seen / 2:
            raise ValueError(
                f"{self.center_name} is not u, v (pixels), d (mm): {swapped} of {seen} frames have no depth there, but "
                "have depth at the same numbers as x, y, z in mm; convert them with poseren_ext.xyz_to_uvd"
            )

    def __call__(self, start: int, stop: int) -> list[FrameOutcome]:
        """The outcome of each frame from start to stop; a frame that fails does not affect the others."""
        images: dict[int, npt.NDArray[Any]] = {}
        outcomes: dict[int, FrameOutcome] = {}
        for index in range(start, stop):
            try:
                images[index] = self.read(index)
                self._require_given(index)
            except (OSError, ValueError) as error:
                images.pop(index, None)
                outcomes[index] = self._failed(index, error)
        if images:
            try:
                outcomes |= self._estimate(images)
            except ValueError:
                for index, image in images.items():
                    try:
                        outcomes |= self._estimate({index: image})
                    except ValueError as error:
                        outcomes[index] = self._failed(index, error)
        return [outcomes[index] for index in range(start, stop)]

    def read(self, index: int) -> npt.NDArray[Any]:
        """A frame [H, W] as stored.

        Raises:
            OSError: the frame cannot be read.
            ValueError: the frame cannot be read, or has another size.
        """
        image = self.frames[index].read()
        if self.size is not None and image.shape != self.size:
            (height, width), (first_height, first_width) = image.shape, self.size
            raise ValueError(
                f"the frame is {width}x{height} but earlier frames are {first_width}x{first_height}; run each size "
                "separately"
            )
        return image

    def _require_given(self, index: int) -> None:
        for name, points in ((self.center_name, self.centers), (self.init_name, self.init_poses)):
            if points is not None and not np.isfinite(points[index]).all():
                raise ValueError(f"{name} has NaN for this frame")

    def _estimate(self, images: dict[int, npt.NDArray[Any]]) -> dict[int, FrameOutcome]:
        chosen = list(images)
        if self.max_hands > 1:
            hands = self.estimator.hands(list(images.values()), self.max_hands)
            return {index: _joined(_outcomes(hands[i])) for i, index in enumerate(chosen)}
        pose = self.estimator(
            list(images.values()),
            init_pose=None if self.init_poses is None else self.init_poses[chosen],
            center=None if self.centers is None else self.centers[chosen],
        )
        return dict(zip(chosen, _outcomes(pose), strict=True))

    def _failed(self, index: int, error: Exception) -> FrameOutcome:
        text = " ".join(str(error).split()).removeprefix(f"{self.frames[index].path}: ")
        return FrameOutcome(reason=_POSITION.sub("", text).partition("; or pass ")[0])


def _outcomes(pose: HandPose) -> list[FrameOutcome]:
    """An outcome for each row of a pose."""
    errors = np.full(len(pose.hand), np.nan) if pose.error_mm is None else np.asarray(pose.error_mm)
    return [
        FrameOutcome(uvd=uvd, xyz=xyz, hand=hand, error_mm=float(error))
        for uvd, xyz, hand, error in zip(np.asarray(pose.uvd), np.asarray(pose.joints), pose.hand, errors, strict=True)
    ]


def _joined(hands: list[FrameOutcome]) -> FrameOutcome:
    """The hands of a frame as one outcome."""
    return replace(hands[0], others=tuple(hands[1:])) if hands else FrameOutcome(reason="no hand was found")


def describe_run(
    estimator: Estimator,
    model: PoseREN | str | os.PathLike[str],
    *,
    precision: str = "float32",
    centers: npt.NDArray[Any] | None = None,
    init_poses: npt.NDArray[Any] | None = None,
    max_hands: int = 1,
) -> tuple[dict[str, Any], dict[str, str]]:
    """Settings and digests of a run: what must be the same for it to be resumed.

    Args:
        estimator: what estimates.
        model: the model as the caller named it.
        precision: of its weights.
        centers: as in `FramePredictor`.
        init_poses: as in `FramePredictor`.
        max_hands: as in `FramePredictor`.

    Returns:
        The settings by the names of the parameters, and SHA-256 digests of weights, centres and initial poses.
    """
    camera = estimator.camera
    settings = {
        "model": model if isinstance(model, str) else type(model).__name__,
        "camera": [camera.fx, camera.fy, camera.cx, camera.cy],
        "depth_unit": estimator.depth_unit,
        "hand": estimator.hand,
        "stages": estimator.stages,
        "cube": estimator.cube,
        "precision": precision,
        "tta": estimator.tta,
        "max_hands": max_hands,
    }
    digests = {"weights": weights_digest(model)}
    if centers is not None:
        digests["centres"] = digest(centers)
    if init_poses is not None:
        digests["initial poses"] = digest(init_poses)
    return settings, digests


def predict_frames(
    predictor: FramePredictor,
    out: str | os.PathLike[str] | IO[bytes],
    *,
    settings: dict[str, Any],
    digests: dict[str, str],
    layout: JointLayout | None = None,
    file_format: Format | None = None,
    missing: Missing = "nan",
    batch: int = 16,
    workers: int | None = None,
    resume: bool = False,
    overwrite: bool = False,
    progress: Progress | None = None,
    watch: Watch | None = None,
) -> PredictionReport:
    """Write the joints of all frames to one file.

    A file is accompanied by a record, FILE.json: the settings, digests of what they name, the frames, and those without
    a result. An interrupted run is continued with ``resume``, provided that all of it is the same.

    Args:
        predictor: what reads and estimates.
        out: the file, or an open binary stream (which has no record).
        settings: the settings by name; a run is only resumed with the same.
        digests: of weights, centres and initial poses; a run is only resumed with the same.
        layout: coordinates, unit, frame and order of the joints; default: uvd in the skeleton's order.
        file_format: default: by the ending of the file, else txt.
        missing: frames without a hand and frames that cannot be read: "skip" leaves them out, "nan" writes NaN, "stop"
            ends the run.
        batch: frames per batch.
        workers: threads, each of which reads and estimates whole batches; default: one per processor core.
        resume: continue a file that exists.
        overwrite: replace a file that exists.
        progress: called after each batch.
        watch: called with the outcomes of each batch.

    Returns:
        What was done.

    Raises:
        FileExistsError: the file exists and neither `resume` nor `overwrite` is set, or the record's name is taken.
        ValueError: Settings of a resumed run differ; no frame has a result; or missing is "stop" and a frame has none.
        OSError: the file cannot be written; the frames before are kept.
    """
    began = time.perf_counter()
    layout = layout or JointLayout()
    skeleton = predictor.estimator.model.skeleton
    layout.check(skeleton)
    if predictor.max_hands > 1 and (file_format or "txt") == "txt" and format_of(str(out)) == "txt":
        raise ValueError("text files have one line per frame; for several hands write .csv, .json, .npz or .parquet")
    names = [str(frame) for frame in predictor.frames]
    if hasattr(out, "write"):
        stream = PredictionStream(out, names, skeleton, layout, file_format, missing)
        return _predict(stream, predictor, batch, workers, progress, watch, began)
    with PredictionFile(
        Path(out),
        names,
        skeleton,
        layout,
        file_format,
        missing,
        settings=settings,
        digests=digests,
        resume=resume,
        overwrite=overwrite,
    ) as file:
        return _predict(file, predictor, batch, workers, progress, watch, began)


def _predict(
    file: PredictionFile | PredictionStream,
    predictor: FramePredictor,
    batch: int,
    workers: int | None,
    progress: Progress | None,
    watch: Watch | None,
    began: float,
) -> PredictionReport:
    first, total = file.done, len(predictor.frames)
    if first < total:
        predictor.require_size()
        predictor.check_given()
    for outcomes in run_batches(predictor, first, batch, workers or usable_cores()):
        start = file.done
        file.write(outcomes)
        if watch is not None:
            watch(start, outcomes)
        if progress is not None:
            progress(file.done, total)
    file.finish()
    return PredictionReport.of(file, first, time.perf_counter() - began)


def usable_cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def run_batches(predictor: FramePredictor, first: int, batch: int, workers: int) -> Iterator[list[FrameOutcome]]:
    """The outcomes of all frames from `first` on, in order, a batch at a time.

    Each worker decodes and computes whole batches with its share of the cores. That keeps all cores busy without
    waiting for each other, which threads inside of single operations do on small images.
    """
    total = len(predictor.frames)
    ranges = deque((start, min(start + batch, total)) for start in range(first, total, batch))
    workers = max(1, min(workers, len(ranges)))
    if workers == 1:
        for part in ranges:
            yield predictor(*part)
        return
    threads = torch.get_num_threads()
    share = max(1, threads // workers)
    pool = ThreadPoolExecutor(workers, "predict", initializer=torch.set_num_threads, initargs=(share,))
    pending: deque[Future[list[FrameOutcome]]] = deque()
    try:
        while ranges or pending:
            while ranges and len(pending) < _AHEAD * workers:
                pending.append(pool.submit(predictor, *ranges.popleft()))
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)  # what the workers set holds for new threads too
