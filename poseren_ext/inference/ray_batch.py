# SPDX-License-Identifier: MIT
"""Joints of folders that are too large for one process: frames spread over the workers of a Ray cluster.

Needs Ray: ``pip install 'poseren_ext[ray]'``.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from poseren_ext.geometry.camera import Camera
from poseren_ext.inference.batch import FramePredictor, PredictionReport, describe_run
from poseren_ext.inference.estimator import Estimator
from poseren_ext.inference.prediction_file import PredictionFile
from poseren_ext.inference.prediction_rows import FrameOutcome, Missing
from poseren_ext.io.depth_files import FrameFile, find_frames
from poseren_ext.io.joint_files import Format
from poseren_ext.io.joint_layout import JointLayout
from poseren_ext.models import PoseREN
from poseren_ext.models.files import BOTH, load_model

Batch = dict[str, npt.NDArray[Any]]


def label_frames(
    inputs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    camera: Camera | Sequence[float],
    model: PoseREN | str = BOTH,
    workers: int = 2,
    batch: int = 64,
    pattern: str = "*",
    layout: JointLayout | None = None,
    file_format: Format | None = None,
    missing: Missing = "nan",
    resume: bool = False,
    overwrite: bool = False,
    cpus_per_worker: float = 1.0,
    gpus_per_worker: float = 0.0,
    **settings: Any,
) -> PredictionReport:
    """Write the joints of every frame, in the frames' order, whatever happens to a worker.

    The file and its record are those of `poseren_ext.inference.batch.predict_frames`. When a worker dies it is
    replaced, and another worker repeats its frames; every row is written once, by the calling process. A cluster is
    joined where Ray is initialised or RAY_ADDRESS names one; all of its nodes read the frames by the same paths.
    Otherwise a cluster of this machine alone is started on the loopback interface and shut down at the end.

    Args:
        inputs: depth files and folders of them.
        out: the file.
        camera: intrinsics of the frames.
        model: a ``PoseREN``, the path of a safetensors file that every node has, or a bundled one, as for `Estimator`.
        workers: processes that hold the model.
        batch: frames that a worker takes at a time.
        pattern: which files of a folder.
        layout: coordinates, unit, frame and order of the joints; default: uvd in the skeleton's order.
        file_format: default: by the ending of the file, else txt.
        missing: frames without a result: "skip" leaves them out, "nan" writes NaN, "stop" ends the run.
        resume: continue a file that exists.
        overwrite: replace a file that exists.
        cpus_per_worker: cores that a worker reserves, and threads that it computes with.
        gpus_per_worker: GPUs that a worker reserves; with more than 0 it computes there.
        settings: further arguments of :class:`poseren_ext.Estimator`: hand, cube, stages, depth_unit, precision.

    Returns:
        What was done.

    Raises:
        FileExistsError: the file exists and neither `resume` nor `overwrite` is set.
        FileNotFoundError: there is no such input.
        ModuleNotFoundError: Ray is not installed.
        ValueError: Settings of a resumed run differ; no frame has a result; or missing is "stop" and a frame has none.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("labelling on a cluster needs Ray: pip install 'poseren_ext[ray]'") from error
    if min(workers, batch) < 1:
        raise ValueError(f"workers is {workers} and batch {batch}; expected 1 or more of both")
    began = time.perf_counter()
    frames = find_frames(inputs, pattern)
    estimator = Estimator(model, camera=camera, **settings)
    skeleton = estimator.model.skeleton
    layout = layout or JointLayout()
    layout.check(skeleton)
    run, digests = describe_run(estimator, model, precision=settings.get("precision") or "float32")
    with (
        PredictionFile(
            Path(out),
            [str(frame) for frame in frames],
            skeleton,
            layout,
            file_format,
            missing,
            settings=run,
            digests=digests,
            resume=resume,
            overwrite=overwrite,
        ) as file,
        _cluster(),
    ):
        first = file.done
        starts = range(first, len(frames), batch)
        if starts:
            predictor = FramePredictor(estimator, frames)
            predictor.require_size()
            ray.data.DataContext.get_current().execution_options.preserve_order = True
            ranges = [{"start": start, "stop": min(start + batch, len(frames))} for start in starts]
            given = (ray.put(frames), model, camera, settings, predictor.size, max(1, int(cpus_per_worker)))
            labels = ray.data.from_items(ranges, override_num_blocks=len(ranges)).map_batches(
                _Labeller,
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=workers),
                num_cpus=cpus_per_worker,
                num_gpus=gpus_per_worker,
                fn_constructor_args=given,
            )
            _write(labels.iter_batches(batch_size=None, batch_format="numpy"), file)
        if file.done != len(frames):
            raise RuntimeError(f"{out} holds {file.done} of {len(frames)} frames; resume to continue")
        file.finish()
        return PredictionReport.of(file, first, time.perf_counter() - began)


@contextmanager
def _cluster() -> Iterator[None]:
    """Ray as it is initialised, or for the time of the block a cluster that no other machine can reach.

    Raises:
        RuntimeError: this version of Ray listens on other interfaces too.
    """
    import ray
    from ray._private import ray_constants

    if ray.is_initialized() or os.environ.get("RAY_ADDRESS"):
        yield
        return
    # By default Ray listens on all interfaces, except on systems where it does not support clusters.
    was = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    ray.init(address="local", include_dashboard=False)
    try:
        address = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        if address != "127.0.0.1":
            raise RuntimeError(f"Ray {ray.__version__} listens on {address}; call ray.init() yourself first")
        yield
    finally:
        ray.shutdown()
        ray_constants.ENABLE_RAY_CLUSTER = was


class _Labeller:
    """A worker: holds the model and labels one range of frames after another."""

    def __init__(
        self,
        frames: Any,
        model: PoseREN | str,
        camera: Camera | Sequence[float],
        settings: dict[str, Any],
        size: tuple[int, int] | None,
        threads: int,
    ) -> None:
        import ray

        torch.set_num_threads(threads)
        known: list[FrameFile] = ray.get(frames)
        if torch.cuda.is_available():  # Ray shows a worker only the GPUs that it reserved
            model = load_model(model).cuda()
        self.predictor = FramePredictor(Estimator(model, camera=camera, **settings), known, size=size)

    def __call__(self, ranges: Batch) -> Batch:
        """{"start", "stop"}: [1] -> "index", "hand", "error_mm", "reason": [N], "uvd" and "xyz": [N, J, 3]."""
        start, stop = int(ranges["start"][0]), int(ranges["stop"][0])
        outcomes = self.predictor(start, stop)
        nothing = np.full((self.predictor.estimator.model.skeleton.num_joints, 3), np.nan, np.float32)
        return {
            "index": np.arange(start, stop),
            "uvd": np.stack([nothing if one.uvd is None else one.uvd for one in outcomes]),
            "xyz": np.stack([nothing if one.xyz is None else one.xyz for one in outcomes]),
            "hand": np.array([one.hand for one in outcomes]),
            "error_mm": np.array([one.error_mm for one in outcomes]),
            "reason": np.array([one.reason for one in outcomes]),
        }


def _write(results: Iterable[Batch], file: PredictionFile) -> None:
    """Write results in the frames' order; what comes out of order, or twice, is refused."""
    for result in results:
        expected = np.arange(file.done, file.done + len(result["index"]))
        if not np.array_equal(result["index"], expected):
            raise RuntimeError(f"labels of frames {result['index'].tolist()} came when {file.done} was next; resume")
        file.write([_outcome(result, row) for row in range(len(expected))])


def _outcome(result: Batch, row: int) -> FrameOutcome:
    reason = str(result["reason"][row])
    if reason:
        return FrameOutcome(reason=reason)
    return FrameOutcome(
        result["uvd"][row], result["xyz"][row], str(result["hand"][row]), float(result["error_mm"][row])
    )
