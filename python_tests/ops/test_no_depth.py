# SPDX-License-Identifier: MIT
"""No depth is no depth: 0, negative, NaN, infinite and masked pixels give the same centres, crops and gradients."""

from __future__ import annotations

import math
from itertools import product
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from helpers.depth_cases import CAMERA, random_transforms, rough_frames
from torch import Tensor

from poseren_ext import ops, reference
from poseren_ext.ops.image import DEPTHS

CENTERS = torch.tensor([[60.0, 20.0, 800.0], [5.0, 39.0, 850.0]])
KINDS: dict[str, tuple[Any, Any, int]] = {
    "upright": (None, "bilinear", 40),
    "transformed": (random_transforms(3, 2), "bilinear", 40),
    "nearest": (None, "nearest", 40),
    "wide": (None, "bilinear", 200),
}


def values_without_depth(dtype: torch.dtype) -> list[float]:
    """Every kind of stored value of the type that is no depth, besides 0."""
    if dtype == torch.uint16:
        return []
    if dtype == torch.int32:
        return [-1.0, -700.0, -(2.0**31)]
    return [-0.0, -1.0, -700.0, torch.finfo(dtype).min, math.nan, math.inf, -math.inf]


CASES = [
    pytest.param(dtype, value, id=f"{value} in {str(dtype).removeprefix('torch.')}")
    for dtype in DEPTHS
    for value in values_without_depth(dtype)
]


def frames_with_holes(dtype: torch.dtype, value: float) -> Tensor:
    """[2, 40, 150]: rough frames with single pixels, rows and blocks that hold the value."""
    depth = rough_frames(5, (2, 40, 150), torch.int32).to(dtype)
    random = torch.Generator().manual_seed(7)
    holes = torch.rand(depth.shape, generator=random) < 0.1
    holes[0, 12], holes[1, 5:15, 40:90] = True, True
    stored = torch.tensor(int(value) if dtype in (torch.int32, torch.uint16) else value).to(dtype)
    return torch.where(holes, stored, depth)


def crop(backend: ModuleType, depth: Tensor, kind: str, **options: Any) -> Tensor:
    transform, interpolation, size = KINDS[kind]
    device = depth.device if isinstance(depth, Tensor) else "cpu"  # arrays before numpy 2 have none
    transform = None if transform is None else transform.to(device)
    shape = {"size": size, "cube": 90.0, "interpolation": interpolation, "transform": transform}
    result: Tensor = backend.depth_crop(depth, CENTERS.to(device), CAMERA, **(shape | options))
    return result


def assert_equal(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize(("dtype", "value"), CASES)
def test_a_crop_is_the_same_whatever_marks_its_holes(device: str, dtype: torch.dtype, value: float) -> None:
    holes, zeros = (frames_with_holes(dtype, hole) for hole in (value, 0.0))
    for kind, invalid in product(KINDS, ("background", 820.0)):
        actual = crop(ops, holes.to(device), kind, invalid=invalid)
        assert_equal(actual, crop(ops, zeros.to(device), kind, invalid=invalid))
        expected = crop(reference, holes, kind, invalid=invalid)
        assert_equal(expected, crop(reference, zeros, kind, invalid=invalid))
        torch.testing.assert_close(actual.cpu(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(("dtype", "value"), CASES)
def test_a_centre_never_counts_a_pixel_without_depth(device: str, dtype: torch.dtype, value: float) -> None:
    holes, zeros = (frames_with_holes(dtype, hole) for hole in (value, 0.0))
    for near, iterations in product((-math.inf, -1000.0, 0.0, 500.0), (0, 2)):
        options: dict[str, Any] = {"near": near, "iterations": iterations, "cube": 120.0, "camera": CAMERA}
        center, count = ops.hand_center(holes.to(device), far=math.inf, **options)
        assert_equal((center, count), ops.hand_center(zeros.to(device), far=math.inf, **options))
        expected = reference.hand_center(holes, far=math.inf, **options)
        assert_equal(expected, reference.hand_center(zeros, far=math.inf, **options))
        torch.testing.assert_close(center.cpu(), expected[0], rtol=1e-6, atol=1e-5)
        assert_equal(count.cpu(), expected[1])
        if iterations == 0:
            assert count.tolist() == (zeros.float() > 0).sum((1, 2)).tolist()


def test_a_range_below_zero_holds_no_pixel(device: str) -> None:
    for dtype in (torch.int32, torch.float32):
        depth = torch.tensor([[-700, -600, 0, 600]], dtype=dtype)
        for find in (ops.hand_center, reference.hand_center):
            center, count = find(depth.to(device), near=-900, far=0)
            assert count == 0
            assert center.isnan().all()


@pytest.mark.parametrize(("dtype", "value"), [(torch.int32, -700), (torch.float32, -700.0), (torch.bfloat16, -700.0)])
def test_invalid_none_takes_negative_depth_as_it_is(device: str, dtype: torch.dtype, value: float) -> None:
    depth = frames_with_holes(dtype, value)
    for kind in KINDS:
        actual = crop(ops, depth.to(device), kind, invalid=None)
        torch.testing.assert_close(actual.cpu(), crop(reference, depth, kind, invalid=None), rtol=0, atol=1e-5)
        assert (actual == -1).any()


@pytest.mark.parametrize("value", values_without_depth(torch.float32))
def test_holes_have_no_gradient(device: str, value: float) -> None:
    gradients = []
    for hole in (value, 0.0):
        depth = frames_with_holes(torch.float32, hole).to(device).requires_grad_()
        crop(ops, depth, "transformed").square().sum().backward()
        assert depth.grad is not None
        assert (depth.grad[~(depth > 0) | depth.isinf()] == 0).all()
        gradients.append(depth.grad)
    assert_equal(*gradients)


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float16, np.float32])
def test_a_masked_pixel_is_no_depth(dtype: Any) -> None:
    plain = frames_with_holes(torch.int32, 0).numpy().astype(dtype)
    masked = np.ma.masked_array(plain.copy(), plain == 0)
    masked.data[masked.mask] = 790
    np.testing.assert_array_equal(crop(ops, masked, "upright"), crop(ops, plain, "upright"))
    assert_equal(ops.hand_center(masked, near=1, far=2000), ops.hand_center(plain, near=1, far=2000))
