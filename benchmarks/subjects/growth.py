# SPDX-License-Identifier: MIT
"""Growth of the time with batch, stages, joints and frame size; at most linear growth is expected."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from benchmarks.machine import keep_freed_memory
from benchmarks.material import CAMERA, FAR, NEAR, Material, draw_frames
from benchmarks.rows import Call, Milliseconds, Row
from benchmarks.timing import interleaved_medians
from benchmarks.trajectory import moved_shares
from poseren_ext import ops
from poseren_ext.geometry.camera import Camera
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.models import HeadConfig, RegionEnsemble, initialize
from poseren_ext.ops import PackedHead

NOISE = 1.2
"""Largest rise of the time per unit along a curve that still counts as linear, because timings are noisy."""
STAGES_FACTOR = 1.5
"""Largest time of ten stages, in multiples of the time of three."""


def curves(material: Material, machine: dict[str, Any]) -> Iterator[Row]:
    """All rows; the last row of a curve has the verdict on the curve."""
    keep_freed_memory()
    for batches in (_cascade_batches, _op_batches, _stages, _joints, _images):
        yield from batches(material, machine)


def judge_linear(values: list[float], times: list[float]) -> dict[str, Any]:
    """Verdict on a curve: the largest rise of the time per unit from any point to a later one."""
    costs = [ms / value for value, ms in zip(values, times, strict=True)]
    rise = max((later / earlier for i, earlier in enumerate(costs) for later in costs[i + 1 :]), default=1.0)
    return {
        "wanted": f"at most linear: cost per unit rises by {NOISE:g}x at most",
        "reached": rise,
        "met": rise <= NOISE,
    }


def _cascade_batches(material: Material, machine: dict[str, Any]) -> Iterator[Row]:
    head = material.head("float32")
    calls: dict[int, Call] = {}
    for batch in material.settings.growth_batches:
        work = list(
            zip(material.repeated(material.features, batch), material.repeated(material.initial, batch), strict=True)
        )
        calls[batch] = _cascade(work, head)
    yield from _curve(material, machine, "cascade_refine", "batch", calls)


def _cascade(work: list[tuple[Tensor, Tensor]], head: PackedHead) -> Call:
    return lambda i: ops.cascade_refine(*work[i % len(work)], head)


def _op_batches(material: Material, machine: dict[str, Any]) -> Iterator[Row]:
    config = material.model.head.config
    crops: dict[int, Call] = {}
    pools: dict[int, Call] = {}
    for batch in material.settings.growth_batches:
        if batch > len(material.frames):  # repeated frames would take gigabytes
            continue
        frames = material.repeated(material.frames, batch)
        centers = material.repeated(material.centers, batch)
        features = material.repeated(material.features, batch)
        poses = material.repeated(material.initial, batch)

        def crop(i: int, frames: Any = frames, centers: Any = centers) -> Tensor:
            return ops.depth_crop(frames[i % len(frames)], centers[i % len(frames)], CAMERA)

        def pool(i: int, features: Any = features, poses: Any = poses) -> Tensor:
            return ops.pose_roi_pool(features[i % len(poses)], poses[i % len(poses)], config.joints)

        room = material.settings.growth_bytes
        crops[batch], pools[batch] = keeping_results(crop, room), keeping_results(pool, room)
    yield from _curve(material, machine, "depth_crop", "batch", crops)
    yield from _curve(material, machine, "pose_roi_pool", "batch", pools)


def keeping_results(call: Callable[[int], Tensor], most: int) -> Call:
    """A call that keeps its last results, `most` bytes of them, so that the next result is not written into a cache."""
    count = max(1, most // call(0).nbytes)
    kept = deque((call(number) for number in range(count)), maxlen=count)

    def keep(number: int) -> Tensor:
        kept.append(call(number))
        return kept[-1]

    return keep


def _stages(material: Material, machine: dict[str, Any]) -> Iterator[Row]:
    """All stages of the same frames, one frame per call."""
    head = material.head("float32")
    features, initial = material.features[:16, None], material.initial[:16, None]
    longest = max(material.settings.growth_stages)
    poses = torch.cat(
        [ops.cascade_refine(f, p, head, stages=longest)[0] for f, p in zip(features, initial, strict=True)], 1
    )
    calls: dict[int, Call] = {}
    for stages in material.settings.growth_stages:

        def refine(_number: int, stages: int = stages) -> None:
            for frame, pose in zip(features, initial, strict=True):
                ops.cascade_refine(frame, pose, head, stages=stages)

        calls[stages] = refine
    rows = list(_curve(material, machine, "cascade_refine of 16 frames, one by one", "stages", calls))
    times = {row.params["value"]: row.ours_ms for row in rows}
    rows[-1].moved.extend(moved_shares(poses, material.model.head.config))
    if {3, 10} <= set(times):
        factor = times[10] / times[3]
        wanted = f"ten stages at most {STAGES_FACTOR}x three"
        rows[-1].targets.append({"wanted": wanted, "reached": factor, "met": factor <= STAGES_FACTOR})
    yield from rows


def _joints(material: Material, machine: dict[str, Any]) -> Iterator[Row]:
    """Narrow heads for the skeletons of the datasets; the number of joints only widens the last layer."""
    calls: dict[int, Call] = {}
    width = min(256, material.settings.widths[0])
    for name in ("nyu14", "icvl16", "msra21"):
        skeleton = SKELETONS[name]
        head = RegionEnsemble(HeadConfig.pose_ren(skeleton, widths=(width, width))).eval()
        initialize(head, fully_connected="he")
        packed = ops.pack_head(head.to(material.settings.device), "float32")
        features = material.features[:16]
        pose = 0.3 * torch.randn(len(features), len(skeleton.joints), 3).to(features)
        calls[len(skeleton.joints)] = _cascade([(features, pose)], packed)
    yield from _curve(material, machine, "cascade_refine", "joints", calls)


def _images(material: Material, machine: dict[str, Any]) -> Iterator[Row]:
    calls: dict[str, dict[int, Call]] = {"hand_center": {}, "depth_crop": {}}
    for height, width in material.settings.growth_images:
        drawn = draw_frames(4, height, width).to(material.settings.device)
        frames = drawn.repeat(-(-material.settings.growth_bytes // drawn.nbytes), 1, 1)[:, None]
        scale = width / 640
        camera = Camera(CAMERA.fx * scale, CAMERA.fy * scale, width / 2, height / 2)
        centers = ops.hand_center(drawn, near=NEAR, far=FAR)[0][:, None]

        def center(i: int, frames: Tensor = frames) -> object:
            return ops.hand_center(frames[i % len(frames)], near=NEAR, far=FAR)

        def crop(i: int, frames: Tensor = frames, centers: Tensor = centers, camera: Camera = camera) -> object:
            return ops.depth_crop(frames[i % len(frames)], centers[i % 4], camera)

        calls["hand_center"][height * width] = center
        calls["depth_crop"][height * width] = crop
    for name, by_pixels in calls.items():
        yield from _curve(material, machine, name, "pixels", by_pixels)


def _curve(material: Material, machine: dict[str, Any], name: str, along: str, calls: dict[int, Call]) -> Iterator[Row]:
    settings = material.settings
    with torch.inference_mode():
        named = {str(value): call for value, call in calls.items()}
        medians: Milliseconds = interleaved_medians(
            named, seconds=settings.seconds, cold=name.startswith("cascade"), device=settings.device
        )
    values = sorted(calls)
    for value in values:
        last = value == values[-1]
        yield Row(
            name=f"growth of {name} with {along}",
            device=settings.device,
            dtype="float32",
            batch=value if along == "batch" else 1,
            ours_ms=medians[str(value)],
            baselines={},
            ratio={},
            lower_bound_ms=None,
            params={"of": name, "along": along, "value": value},
            machine=machine,
            targets=[judge_linear([float(v) for v in values], [medians[str(v)] for v in values])] if last else [],
        )
