# SPDX-License-Identifier: MIT
"""Tensors on several devices are refused with advice before a kernel is launched.

Uses fake CUDA tensors, which need no GPU; test_cuda_launch.py tests what only a launch can detect.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import torch
from helpers.heads import random_head
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from poseren_ext import Camera, ops

CAMERA = Camera(200.0, 180.0, 20.0, 15.0)


@pytest.fixture(autouse=True)
def _fake_tensors() -> Iterator[None]:
    with FakeTensorMode():
        yield


def on(device: str, *shape: int) -> Tensor:
    return torch.empty(*shape, device=device)


def head_on(device: str) -> ops.PackedHead:
    return ops.pack_head(random_head(), "float32").to(device)


CALLS: dict[str, Callable[[str], Any]] = {
    "hand_center mask": lambda other: ops.hand_center(
        on("cuda:0", 2, 8, 9), near=1, far=2, mask=torch.empty(2, 8, 9, dtype=torch.bool, device=other)
    ),
    "hand_center camera": lambda other: ops.hand_center(
        on("cuda:0", 2, 8, 9), near=1, far=2, iterations=1, camera=on(other, 2, 4)
    ),
    "depth_crop center": lambda other: ops.depth_crop(on("cuda:0", 2, 8, 9), on(other, 2, 3), CAMERA),
    "depth_crop camera": lambda other: ops.depth_crop(on("cuda:0", 2, 8, 9), on("cuda:0", 2, 3), on(other, 4)),
    "depth_crop cube": lambda other: ops.depth_crop(
        on("cuda:0", 2, 8, 9), on("cuda:0", 2, 3), CAMERA, cube=on(other, 2)
    ),
    "depth_crop transform": lambda other: ops.depth_crop(
        on("cuda:0", 2, 8, 9), on("cuda:0", 2, 3), CAMERA, transform=on(other, 2, 2, 3)
    ),
    "normalize_pose center": lambda other: ops.normalize_pose(on("cuda:0", 2, 14, 3), on(other, 2, 3), CAMERA),
    "pose_roi_pool pose": lambda other: ops.pose_roi_pool(on("cuda:0", 2, 4, 12, 12), on(other, 2, 14, 3), [0]),
    "cascade_refine pose": lambda other: ops.cascade_refine(
        on("cuda:0", 2, 4, 12, 12), on(other, 2, 14, 3), head_on("cuda:0")
    ),
    "cascade_refine head": lambda other: ops.cascade_refine(
        on("cuda:0", 2, 4, 12, 12), on("cuda:0", 2, 14, 3), head_on(other)
    ),
}


# Without any GPU a fake second one is as good; where there is one, torch asks it.
SECOND = pytest.param(
    "cuda:1",
    marks=pytest.mark.skipif(torch.cuda.device_count() == 1, reason="one CUDA device: the second was not tried"),
)


@pytest.mark.parametrize("other", ["cpu", SECOND])
@pytest.mark.parametrize("call", CALLS)
def test_a_tensor_of_another_device_is_refused(call: str, other: str) -> None:
    with pytest.raises(ValueError, match=rf"is on cuda:0 and .* on {other}; move both to one device with \.to\(\)"):
        CALLS[call](other)


@pytest.mark.parametrize("layer", ["region_bias", "finger_weight", "pose_weight"])
def test_a_head_of_two_devices_is_refused(layer: str) -> None:
    head = head_on("cuda:0")
    torn = replace(head, **{layer: getattr(head, layer).to("cpu")})
    with pytest.raises(ValueError, match=rf"head's {layer} on cpu; move both to one device with \.to\(\)"):
        ops.cascade_refine(on("cuda:0", 2, 4, 12, 12), on("cuda:0", 2, 14, 3), torn)


@pytest.mark.parametrize("device", ["cuda:0", SECOND])
def test_results_live_where_the_input_does(device: str) -> None:
    center, count = ops.hand_center(on(device, 2, 8, 9), near=1, far=2)
    poses, _ = ops.cascade_refine(on(device, 2, 4, 12, 12), on(device, 2, 14, 3), head_on(device))
    for result in (center, count, ops.depth_crop(on(device, 2, 8, 9), center, CAMERA), poses):
        assert str(result.device) == device
