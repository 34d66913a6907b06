# SPDX-License-Identifier: MIT
"""Prints, as JSON, the instruction set in use and a digest of what each op gives with it: run by test_isa.py."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from itertools import product

import torch
from depth_cases import CAMERA, random_transforms, rough_frames
from torch import Tensor

from poseren_ext import ops
from poseren_ext.ops import _native
from poseren_ext.ops.image import CROPS, DEPTHS


def hand_center() -> list[Tensor]:
    results: list[Tensor] = []
    for dtype, width in product(DEPTHS, (1, 33, 200)):
        depth = rough_frames(0, (3, 40, width), dtype)
        mask = torch.arange(width) % 3 > 0
        for chosen in (None, mask.expand(3, 40, width)):
            results += ops.hand_center(depth, near=500, far=900, mask=chosen, iterations=2, camera=CAMERA, cube=80.0)
    return results


def depth_crop() -> list[Tensor]:
    results: list[Tensor] = []
    centers = torch.tensor([[30.0, 20.0, 800.0], [5.0, 39.0, 700.0], [50.0, -4.0, 900.0]])
    transforms = (None, random_transforms(0, 3))
    for dtype, crop, transform, size in product(DEPTHS, CROPS, transforms, (5, 96, 200)):
        depth = rough_frames(1, (3, 40, 60), dtype)
        for invalid in ("background", None):
            options = {"transform": transform, "size": size, "invalid": invalid, "dtype": crop}
            results.append(ops.depth_crop(depth, centers, CAMERA, cube=60.0, **options))
    return results


OPS: tuple[Callable[[], list[Tensor]], ...] = (hand_center, depth_crop)


def digest(tensors: list[Tensor]) -> str:
    sha = hashlib.sha256()
    for tensor in tensors:
        if tensor.is_floating_point():
            tensor = torch.where(tensor.isnan(), torch.nan, tensor)  # NaNs of any payload and sign are one
        sha.update(bytes(tensor.contiguous().view(torch.uint8).numpy()))
    return sha.hexdigest()


if __name__ == "__main__":
    print(json.dumps({"isa": _native.build_info()["cpu_isa"], **{op.__name__: digest(op()) for op in OPS}}))
