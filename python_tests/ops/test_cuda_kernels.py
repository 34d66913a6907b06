# SPDX-License-Identifier: MIT
"""Every CUDA kernel runs on hostsim and gives the same bits in any order of its threads and blocks.

A missing barrier or a read of another thread's result gives other bits in some order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

import pytest
import torch
from helpers import hostsim_device
from helpers.depth_cases import CAMERA, CENTER, CUBE, random_transforms, rough_frames
from helpers.heads import NYU, narrow_config, random_head, scene
from helpers.op_contract import assert_same_bits
from torch import Tensor

from poseren_ext import ops
from poseren_ext.ops import _native
from poseren_ext.ops.image import CROPS, DEPTHS


@pytest.fixture(autouse=True)
def _on_hostsim() -> Iterator[None]:
    if hostsim_device.missing():
        pytest.skip(hostsim_device.missing())
    with _native.use_namespace(hostsim_device.NAMESPACE):
        yield


def centers() -> list[Tensor]:
    results: list[Tensor] = []
    for dtype in DEPTHS:
        depth = rough_frames(1, (2, 37, 53), dtype)
        mask = torch.rand(depth.shape, generator=torch.Generator().manual_seed(2)) < 0.7
        results += ops.hand_center(depth, near=700, far=1000)
        results += ops.hand_center(depth, near=700, far=1000, mask=mask, iterations=2, cube=CUBE, camera=CAMERA)
    return results


def crops() -> list[Tensor]:
    results: list[Tensor] = []
    for depth_dtype in DEPTHS:
        for dtype in CROPS:
            depth = rough_frames(3, (2, 32, 40), depth_dtype)
            transform = random_transforms(4, 2) if dtype == torch.float32 else None
            depth.requires_grad_(depth_dtype.is_floating_point)
            crop = ops.depth_crop(
                depth, CENTER.expand(2, 3), CAMERA, cube=CUBE, size=21, transform=transform, dtype=dtype
            )
            results.append(crop.detach())
            if depth.requires_grad:
                results += torch.autograd.grad(crop.float().nansum(), depth)
    return results


def windows() -> list[Tensor]:
    return [ops.roi_windows(scene(50, narrow_config())[1], NYU.guided)]


def regions(mode: str, *, output_size: int, channels_last: bool) -> list[Tensor]:
    results: list[Tensor] = []
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        features, pose = scene(2, narrow_config())
        layout = torch.channels_last if channels_last else torch.contiguous_format
        maps = features.to(dtype).to(memory_format=layout).requires_grad_()
        rows = pose.to(torch.float64 if dtype == torch.float64 else torch.float32).requires_grad_(mode == "align")
        pooled = ops.pose_roi_pool(maps, rows, NYU.guided, mode=mode, output_size=output_size)
        weights = torch.linspace(-1, 1, pooled.numel()).reshape(pooled.shape).to(dtype)
        leaves = [maps, rows] if mode == "align" else [maps]
        results += [pooled.detach(), *torch.autograd.grad(pooled, leaves, weights)]
    return results


def cascade(batch: int, dtype: str, mode: str = "max", widths: tuple[int, int] = (24, 16)) -> list[Tensor]:
    config = replace(narrow_config(widths=widths), mode=mode)
    head = ops.pack_head(random_head(config, step=0.02), dtype)
    return list(ops.cascade_refine(*scene(batch, config), head, stages=3))


CASES: dict[str, Callable[[], list[Tensor]]] = {
    "hand_center": centers,
    "depth_crop": crops,
    "roi_windows": windows,
    "pose_roi_pool max": lambda: regions("max", output_size=7, channels_last=False),
    "pose_roi_pool max, bins of many cells": lambda: regions("max", output_size=3, channels_last=True),
    "pose_roi_pool align": lambda: regions("align", output_size=5, channels_last=False),
    **{
        f"cascade_refine {batch} {dtype}": lambda batch=batch, dtype=dtype: cascade(batch, dtype)
        for batch in (1, 3, 5, 20)
        for dtype in ("float32", "bfloat16", "int8")
    },
    "cascade_refine small align": lambda: cascade(2, "float32", "align"),
    "cascade_refine align": lambda: cascade(9, "bfloat16", "align"),
    "cascade_refine odd widths": lambda: cascade(2, "bfloat16", widths=(13, 7)),
    "cascade_refine odd widths, tiles of rows": lambda: cascade(9, "float32", widths=(131, 9)),
    "cascade_refine tiles of samples": lambda: cascade(131, "float32", widths=(8, 8)),
}


@pytest.mark.parametrize("case", CASES)
def test_same_bits_in_any_order_of_threads_and_each_time(case: str) -> None:
    first = CASES[case]()
    assert_same_bits(CASES[case](), first)
    for order in hostsim_device.ORDERS[1:]:
        with hostsim_device.thread_order(order):
            assert_same_bits(CASES[case](), first)


def test_every_kernel_of_the_sources_was_executed() -> None:
    """In this module's cases; the last line of a test run counts them over the whole session."""
    before = hostsim_device.launches()
    for case in CASES.values():
        case()
    ran = {name for name, count in hostsim_device.launches().items() if count > before.get(name, 0)}
    assert ran == hostsim_device.declared_kernels()
