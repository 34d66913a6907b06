# SPDX-License-Identifier: MIT
"""Ops as fuzz targets: bytes select the arguments, and frames of files pass through all ops.

A coverage-guided fuzzer can drive the native code this way, and findings are files.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import torch
from helpers.small_models import small_model
from torch import Tensor

from fuzz import OPS
from fuzz.mutate import flip, length, part, several, truncate
from fuzz.op_cases import compare, run
from fuzz.targets import TARGETS, Target
from poseren_ext import ops
from poseren_ext.geometry.camera import Camera
from poseren_ext.io.depth_files import find_frames

MOST_PIXELS = 2**13
"""Of a frame that is computed with: the reference takes its time."""
_DRAWS = 600


class ByteRandom(Random):
    """Random numbers taken from bytes, and from seed 0 after their end."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self._rest = data

    def getrandbits(self, k: int) -> int:
        """A whole number of k bits."""
        size = (k + 7) // 8
        if len(self._rest) < size:
            return super().getrandbits(k)
        drawn, self._rest = self._rest[:size], self._rest[size:]
        return int.from_bytes(drawn, "little") & ((1 << k) - 1)

    def random(self) -> float:
        """One of 65536 numbers in [0, 1), from two bytes."""
        return self.getrandbits(16) / 65536


@dataclass(frozen=True)
class OpTarget:
    """An op as a target; see `Target`."""

    name: str
    suffix: str = ".draws"

    def seeds(self) -> list[bytes]:
        """Bytes for various arguments."""
        return [Random(seed).randbytes(_DRAWS) for seed in range(12)]

    def run(self, path: Path, data: bytes) -> bool:
        """Whether the op accepts the arguments selected by the bytes.

        Raises:
            AssertionError, or anything but a refusal: a finding.
        """
        path.write_bytes(data)
        return run(self.name, ByteRandom(data))

    def mutate(self, random: Random, data: bytes) -> bytes:
        """Other bytes."""
        return several(random, data, (flip, truncate, length, part))


@cache
def _model() -> Any:
    return small_model("nyu14", spread=0.5)


def _estimate(path: Path, data: bytes) -> None:
    """Pass a frame through the ops and compare each with the reference."""
    depth = torch.from_numpy(find_frames([path])[0].read().copy())[None]
    if depth.numel() > MOST_PIXELS:
        return
    camera, model = Camera(200.0, 180.0, depth.shape[2] / 2, depth.shape[1] / 2), _model()
    passes = 2 if not depth.is_floating_point() else 0  # sums of floats differ in their last bit
    found = {"depth": depth, "near": 100.0, "far": 2000.0, "iterations": passes, "camera": camera}
    center = _checked("hand_center", **found)[0]
    crop = _checked("depth_crop", depth=depth, center=center, camera=camera, cube=60.0, size=96)
    with torch.no_grad():
        features, pose = model.backbone(crop), model.init(crop)
        _checked("pose_roi_pool", features=features, pose=pose, joints=model.head.config.joints)
        poses, _ = _checked("cascade_refine", features=features, pose=pose, head=model.head, stages=2)
    _checked("denormalize_pose", pose=poses[-1], center=center, camera=camera)


def _checked(name: str, **arguments: Any) -> Any:
    result: Tensor | tuple[Tensor, ...] = getattr(ops, name)(**arguments)
    compare(name, arguments, result)
    return result


def _through_the_ops(reader: str) -> Target:
    target = TARGETS[reader]
    return Target(target.suffix, target.seeds, _estimate, target.mutations)


NATIVE_TARGETS: dict[str, Target | OpTarget] = {
    **{name: OpTarget(name) for name in OPS},
    "png to pose": _through_the_ops("png"),
    "npy to pose": _through_the_ops("npy"),
}
