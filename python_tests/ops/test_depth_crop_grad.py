# SPDX-License-Identifier: MIT
"""depth_crop's gradient to depth, and its contract as an op."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from helpers.depth_cases import CAMERA, CENTER, CUBE, random_transforms, rough_frames
from helpers.op_contract import Arguments, OpContract
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from poseren_ext import ops, reference
from poseren_ext.geometry.camera import Camera
from poseren_ext.ops.image import CROPS, DEPTHS

FLOATS = [dtype for dtype in DEPTHS if dtype.is_floating_point]


def gradient(function: Any, depth: Tensor, **arguments: Any) -> Tensor:
    """The gradient of a weighted sum of the crop."""
    depth = depth.detach().clone().requires_grad_()
    crop = function(depth, **arguments)
    weights = torch.linspace(-1, 1, crop.numel(), device=crop.device).reshape(crop.shape).to(crop.dtype)
    (slope,) = torch.autograd.grad(crop, depth, weights)
    return slope


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(0, 3), st.integers(1, 30), st.integers(1, 40)),
    types=st.tuples(st.sampled_from(FLOATS), st.sampled_from(CROPS)),
    size=st.integers(2, 40),
    turned=st.booleans(),
    invalid=st.sampled_from(["background", None, 850.0]),
    interpolation=st.sampled_from(["bilinear", "nearest"]),
)
def test_equals_autograd_of_the_reference(
    seed: int,
    shape: tuple[int, int, int],
    types: tuple[torch.dtype, torch.dtype],
    size: int,
    turned: bool,
    invalid: Any,
    interpolation: Any,
) -> None:
    random = torch.Generator().manual_seed(seed)
    B, H, W = shape
    depth = rough_frames(seed, shape, types[0])
    if invalid is None and depth.is_floating_point():
        depth = torch.where(depth.isfinite(), depth, 800)  # NaN taps: the reference multiplies them by gradients of 0
    arguments: dict[str, Any] = {
        "center": torch.tensor([W, H, 0]) * torch.rand(B, 3, generator=random) + torch.tensor([0, 0, 800.0]),
        "camera": CAMERA,
        "cube": 40 + 40 * torch.rand(B, 3, generator=random),
        "transform": random_transforms(seed, B) if turned else None,
        "invalid": invalid,
        "interpolation": interpolation,
        "size": size,
        "dtype": types[1],
    }
    slope, expected = gradient(ops.depth_crop, depth, **arguments), gradient(reference.depth_crop, depth, **arguments)
    tolerance = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}[types[0]]
    # A value on the cube's face passes the gradient or not by one rounding: such pixels are few.
    wrong = ~torch.isclose(slope.float(), expected.float(), rtol=tolerance, atol=tolerance * 1e-1)
    assert wrong.sum() <= 4


def test_worked_out_by_hand(device: str) -> None:
    """One output pixel of 3x3 lies in the middle of four pixels; the corners look beyond the frame."""
    depth = torch.tensor([[790.0, 780.0], [820.0, 0.0]], device=device)
    camera = Camera(800.0, 800.0, 0.0, 0.0)
    center = torch.tensor([0.5, 0.5, 800.0], device=device)
    slope = gradient(ops.depth_crop, depth, center=center, camera=camera, cube=100.0, size=3, invalid=None)
    assert torch.equal(slope, torch.zeros_like(depth))  # 597.5 mm: clamped; and the middle one's weight is 0
    depth[1, 1] = 810
    crop = ops.depth_crop(depth.requires_grad_(), center, camera, cube=100.0, size=3, invalid=None)
    assert crop[0, 1, 1].item() == pytest.approx(0.0)
    (slope,) = torch.autograd.grad(crop[0, 1, 1], depth)
    assert torch.equal(slope.cpu(), torch.full((2, 2), 0.25 / 100))


def test_replaced_taps_have_no_gradient(device: str) -> None:
    depth = torch.tensor([[790.0, 0.0], [780.0, float("nan")]], device=device)
    center = torch.tensor([0.5, 0.5, 800.0], device=device)
    crop = ops.depth_crop(depth.requires_grad_(), center, Camera(800.0, 800.0, 0.0, 0.0), cube=100.0, size=3)
    (slope,) = torch.autograd.grad(crop[0, 1, 1], depth)
    assert torch.equal(slope.cpu(), torch.tensor([[0.0025, 0.0], [0.0025, 0.0]]))


def test_an_unusable_sample_has_no_gradient(device: str) -> None:
    depth = torch.full((2, 20, 24), 790.0, device=device)
    center = torch.tensor([[12.0, 9.0, 800.0], [12.0, float("nan"), 800.0]], device=device)
    slope = gradient(ops.depth_crop, depth, center=center, camera=CAMERA, size=8)
    assert slope[0].abs().sum() > 0
    assert torch.equal(slope[1], torch.zeros_like(slope[1]))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_the_gradient_has_the_depths_type_and_shape(device: str, dtype: torch.dtype) -> None:
    whole = rough_frames(0, (4, 40, 60), dtype).to(device).requires_grad_()
    crop = ops.depth_crop(whole[::2, 3:, 5:50], CENTER.repeat(2, 1).to(device), CAMERA, cube=CUBE)
    crop.sum().backward()
    assert whole.grad is not None
    assert (whole.grad.dtype, whole.grad.shape) == (dtype, whole.shape)
    assert whole.grad[::2, 3:, 5:50].abs().sum() > 0
    assert torch.equal(whole.grad[1::2], torch.zeros_like(whole.grad[1::2]))


def test_integer_depths_have_no_gradient_and_geometry_refuses_one(device: str) -> None:
    depth = rough_frames(0, (1, 40, 60), torch.uint16).to(device)
    center = CENTER[None].clone().to(device)
    assert not ops.depth_crop(depth, center, CAMERA).requires_grad
    crop = ops.depth_crop(depth.float().requires_grad_(), center.requires_grad_(), CAMERA)
    with pytest.raises(RuntimeError, match=r"not in center: pass center.detach\(\)"):
        crop.sum().backward()


class TestContract(OpContract):
    name = "depth_crop"
    main = "depth"
    dtypes = DEPTHS
    refused_dtypes = (torch.bool, torch.complex64, torch.int64, torch.float64, torch.uint8)
    batched = ("depth", "center", "camera", "cube", "transform")
    tolerance = {torch.float32: 1e-5}  # noqa: RUF012
    differentiable = ("depth",)
    # float32 depths, in mm: a wide step, within which the crop is linear
    gradcheck_options = {"eps": 4.0, "atol": 2e-6, "rtol": 1e-3}  # noqa: RUF012

    def arguments(self, device: str, dtype: torch.dtype, batch: int = 3) -> Arguments:
        seed = int(torch.randint(1000, ()))
        return {
            "depth": rough_frames(seed, (batch, 32, 40), dtype).to(device),
            "center": (CENTER + 4 * torch.randn(batch, 3)).to(device),
            "camera": (CAMERA.tensor() + torch.rand(batch, 4)).to(device),
            "cube": (CUBE + 20 * torch.rand(batch, 3)).to(device),
            "transform": random_transforms(seed, batch).to(device),
            "size": 24,
        }

    def native_arguments(self, arguments: Arguments) -> tuple[Any, ...]:
        tensors = (arguments[name] for name in self.batched)
        return (*tensors, arguments["size"], 1, 0.0, False, 1.0, torch.float32)

    def gradcheck_arguments(self, device: str) -> Arguments:
        return {
            "depth": (780 + 40 * torch.rand(1, 5, 6)).to(device),
            "center": torch.tensor([[2.6, 2.1, 800.0]], device=device),
            "camera": CAMERA.tensor().to(device)[None],
            "cube": torch.tensor([[8.0, 8.0, 60.0]], device=device),
            "transform": random_transforms(3, 1).to(device),
            "size": 5,
            "invalid": None,
        }
