# SPDX-License-Identifier: MIT
"""Labels for folders too large for one process: frames spread over the workers of a Ray cluster.

Needs Ray: ``pip install 'poseren_ext[ray]'``.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from poseren_ext.geometry.camera import Camera
from poseren_ext.inference.estimator import Estimator
from poseren_ext.io.depth_files import FrameFile, find_frames
from poseren_ext.io.pose_files import PoseWriter
from poseren_ext.models import PoseREN
from poseren_ext.models.files import load_model

Batch = dict[str, npt.NDArray[Any]]


def label_frames(
    inputs: Iterable[str | os.PathLike[str]],
    out: str | os.PathLike[str],
    *,
    camera: Camera | Sequence[float],
    model: PoseREN | str = "demo",
    workers: int = 2,
    batch: int = 64,
    pattern: str = "*",
    cpus_per_worker: float = 1.0,
    gpus_per_worker: float = 0.0,
    **settings: Any,
) -> int:
    """Write the joints of every frame: one line a frame, in the frames' order, whatever happens to a worker.

    The file grows while this runs and is continued when it is run again, as that of ``poseren predict``. A worker that
    dies is replaced, and its frames are done again by another; every line is written once, by the calling process.
    A cluster is joined where Ray is initialised or RAY_ADDRESS names one; all of its nodes read the frames by the same
    paths. Otherwise one of this machine alone is started, on the loopback interface, and shut down at the end.

    Args:
        inputs: depth files and folders of them.
        out: the prediction file, 3J numbers u v d a line.
        camera: intrinsics of the frames.
        model: a ``PoseREN``, the path of a safetensors file that every node has, or "demo".
        workers: processes that hold the model.
        batch: frames that a worker takes at a time.
        pattern: which files of a folder.
        cpus_per_worker: cores that a worker reserves, and threads that it computes with.
        gpus_per_worker: GPUs that a worker reserves; with more than 0 it computes there.
        settings: further arguments of :class:`poseren_ext.Estimator`: hand, cube, stages, depth_unit, precision.

    Returns:
        The number of lines in the file.

    Raises:
        FileNotFoundError: no such input.
        ModuleNotFoundError: Ray is not installed.
        ValueError: a frame at fault, named in the message; the frames before it are in the file.
    """
    try:
        import ray
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("labelling on a cluster needs Ray: pip install 'poseren_ext[ray]'") from error
    if min(workers, batch) < 1:
        raise ValueError(f"workers is {workers} and batch {batch}; expected 1 or more of both")
    frames = find_frames(inputs, pattern)
    estimator = Estimator(model, camera=camera, **settings)
    with _cluster(), PoseWriter(out, estimator.model.skeleton.num_joints) as writer:
        starts = range(writer.done, len(frames), batch)
        if starts:
            ray.data.DataContext.get_current().execution_options.preserve_order = True
            ranges = [{"start": start, "stop": min(start + batch, len(frames))} for start in starts]
            labels = ray.data.from_items(ranges, override_num_blocks=len(ranges)).map_batches(
                _Labeller,
                batch_size=1,
                compute=ray.data.ActorPoolStrategy(size=workers),
                num_cpus=cpus_per_worker,
                num_gpus=gpus_per_worker,
                fn_constructor_args=(ray.put(frames), model, camera, settings, max(1, int(cpus_per_worker))),
            )
            _write(labels.iter_batches(batch_size=None, batch_format="numpy"), frames, writer)
        if writer.done != len(frames):
            raise RuntimeError(f"{out} holds {writer.done} lines after {len(frames)} frames; run again to continue")
        return writer.done


@contextmanager
def _cluster() -> Iterator[None]:
    """Ray as it is, or for the time of the block a cluster that no other machine can reach.

    Raises:
        RuntimeError: this Ray would be reached from elsewhere.
    """
    import ray
    from ray._private import ray_constants

    if ray.is_initialized() or os.environ.get("RAY_ADDRESS"):
        yield
        return
    # By itself Ray listens on all interfaces, but on systems where it supports no clusters.
    was = ray_constants.ENABLE_RAY_CLUSTER
    ray_constants.ENABLE_RAY_CLUSTER = False
    ray.init(address="local", include_dashboard=False)
    try:
        address = str(ray.util.get_node_ip_address())  # type: ignore[no-untyped-call]
        if address != "127.0.0.1":
            raise RuntimeError(f"Ray {ray.__version__} listens on {address}; call ray.init() as you want it first")
        yield
    finally:
        ray.shutdown()
        ray_constants.ENABLE_RAY_CLUSTER = was


class _Labeller:
    """A worker: holds the model, and labels one range of frames after another."""

    def __init__(
        self,
        frames: Any,
        model: PoseREN | str,
        camera: Camera | Sequence[float],
        settings: dict[str, Any],
        threads: int,
    ) -> None:
        import ray

        torch.set_num_threads(threads)
        self.frames: list[FrameFile] = ray.get(frames)
        if torch.cuda.is_available():  # Ray shows a worker the GPUs that it reserved, and no other
            model = load_model(model).cuda()
        self.estimator = Estimator(model, camera=camera, **settings)

    def __call__(self, ranges: Batch) -> Batch:
        """{"start", "stop"}: [1] -> {"index": [N], "uvd": [N, J, 3], "fault": [N]}, up to the first frame at fault."""
        start, stop = int(ranges["start"][0]), int(ranges["stop"][0])
        try:
            uvd, faults = self._label(self.frames[start:stop]), [""] * (stop - start)
        except (OSError, ValueError):
            uvd, faults = self._one_by_one(start, stop)
        return {"index": np.arange(start, start + len(uvd)), "uvd": uvd, "fault": np.array(faults)}

    def _label(self, frames: list[FrameFile]) -> npt.NDArray[Any]:
        uvd: npt.NDArray[Any] = np.asarray(self.estimator([frame.read() for frame in frames]).uvd)
        return uvd

    def _one_by_one(self, start: int, stop: int) -> tuple[npt.NDArray[Any], list[str]]:
        """Which frame is at fault, and the labels of those before it."""
        done = [np.empty((0, self.estimator.model.skeleton.num_joints, 3), np.float32)]
        for i in range(start, stop):
            try:
                done.append(self._label(self.frames[i : i + 1]))
            except (OSError, ValueError) as error:
                done.append(np.full_like(done[0], np.nan, shape=(1, *done[0].shape[1:])))
                return np.concatenate(done), [""] * (i - start) + [str(error)]
        return np.concatenate(done), [""] * (stop - start)


def _write(results: Iterable[Batch], frames: list[FrameFile], writer: PoseWriter) -> None:
    """Append labels in the frames' order; whatever comes out of order, or twice, is refused."""
    for result in results:
        expected = np.arange(writer.done, writer.done + len(result["index"]))
        if not np.array_equal(result["index"], expected):
            raise RuntimeError(
                f"labels of frames {result['index'].tolist()} came when {writer.done} was next; run again"
            )
        at_fault = np.flatnonzero(result["fault"] != "")
        if len(at_fault):
            writer.append(result["uvd"][: at_fault[0]])
            i = int(at_fault[0])
            raise ValueError(
                f"{frames[result['index'][i]]}: {result['fault'][i]}; the {writer.done} frames before it are in "
                f"{writer.path}"
            )
        writer.append(result["uvd"])
