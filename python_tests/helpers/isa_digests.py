# SPDX-License-Identifier: MIT
"""Prints the instruction set in use and a digest of the results of each op as JSON; run by test_isa.py."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

from benchmarks.subjects.refine import widened
from helpers.depth_cases import CAMERA, random_transforms, rough_frames
from poseren_ext import SKELETONS, HeadConfig, ops, reference
from poseren_ext.models import RegionEnsemble, initialize
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
    """Crops of frames narrower than two registers and of wider ones, whose columns lie close together and far apart."""
    results: list[Tensor] = []
    centers = torch.tensor([[30.0, 20.0, 800.0], [5.0, 39.0, 700.0], [50.0, -4.0, 900.0]])
    transforms = (None, random_transforms(0, 3))
    for dtype, crop, transform, size in product(DEPTHS, CROPS, transforms, (5, 24, 96, 200)):
        for width, cube, invalid in ((60, 60.0, "background"), (60, 60.0, None), (150, 250.0, "background")):
            depth = rough_frames(1, (3, 40, width), dtype)
            options = {"transform": transform, "size": size, "invalid": invalid, "dtype": crop}
            results.append(ops.depth_crop(depth, centers, CAMERA, cube=cube, **options))
    return results


def pose_roi_pool() -> list[Tensor]:
    """Regions and gradients of maps of one register's width and of wider ones, with joints beyond the edge."""
    results: list[Tensor] = []
    joints = [0, 2, 3]
    for dtype, width, mode in product((torch.float32, torch.bfloat16, torch.float16), (12, 30), ("max", "align")):
        generator = torch.Generator().manual_seed(width)
        features = torch.randn(3, 5, 12, width, generator=generator).to(dtype).requires_grad_()
        pose = (1.3 * torch.randn(3, 4, 3, generator=generator)).requires_grad_(mode == "align")
        regions = ops.pose_roi_pool(features, pose, joints, mode=mode)
        grad = torch.randn(regions.shape, generator=generator).to(dtype)
        inputs = [features, pose] if mode == "align" else [features]
        results += [regions.detach(), *torch.autograd.grad(regions, inputs, grad)]
    return results


def windows_of_the_map() -> list[Tensor]:
    """Crops of 1 to 8 cells, more channels than are pooled at once, maps of a register's width and of others, with
    gradients that are not finite beside those that are.
    """
    results: list[Tensor] = []
    sizes = ((12, 12), (9, 16), (12, 5), (33, 12), (12, 17))
    for dtype, cells, size in product((torch.float32, torch.bfloat16, torch.float64), range(1, 9), sizes):
        generator = torch.Generator().manual_seed(cells)
        features = torch.randn(2, 35, *size, generator=generator).to(dtype).requires_grad_()
        pose = 1.3 * torch.randn(2, 4, 3, generator=generator)
        regions = ops.pose_roi_pool(features, pose, [0, 1, 2, 3], output_size=cells, roi_size=max(8 * cells - 8, 1))
        grad = torch.randn(regions.shape, generator=generator).to(dtype)
        grad[torch.rand(regions.shape, generator=generator) < 0.01] = torch.inf
        results += [regions.detach(), *torch.autograd.grad(regions, features, grad)]
    return results


OPS: tuple[Callable[[], list[Tensor]], ...] = (hand_center, depth_crop, pose_roi_pool, windows_of_the_map)


def digest(tensors: list[Tensor]) -> str:
    sha = hashlib.sha256()
    for tensor in tensors:
        if tensor.is_floating_point():
            tensor = torch.where(tensor.isnan(), torch.nan, tensor)  # NaNs of any payload and sign are one
        sha.update(bytes(tensor.contiguous().view(torch.uint8).numpy()))
    return sha.hexdigest()


def cascade_errors() -> dict[str, float]:
    """How far the cascade is from the reference with the same weights: its sums may be rounded otherwise."""
    torch.manual_seed(0)
    head = RegionEnsemble(HeadConfig.pose_ren(SKELETONS["nyu14"], widths=(37, 52), channels=5))  # no register is full
    initialize(head, fully_connected="he")
    features, pose = torch.rand(9, 5, 12, 12), 0.5 * torch.randn(9, 14, 3)
    errors = {}
    for dtype in ("float32", "bfloat16", "int8"):
        packed = ops.pack_head(head, dtype)
        poses, _ = ops.cascade_refine(features, pose, packed, stages=1)
        wanted, _ = reference.cascade_refine(features, pose, widened(packed), stages=1)
        errors[dtype] = float((poses - wanted).detach().abs().max())
    return errors


if __name__ == "__main__":
    digests = {op.__name__: digest(op()) for op in OPS}
    print(json.dumps({"isa": _native.build_info()["cpu_isa"], "cascade_errors": cascade_errors(), **digests}))
