# SPDX-License-Identifier: MIT
"""Cases in which comparable ops have failed: NaN, empty bins, wrong samples, 16-bit types, huge tensors."""

from __future__ import annotations

import math
from typing import Any, Literal

import pytest
import torch
from helpers.op_contract import assert_same_bits
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from poseren_ext import ops, reference
from poseren_ext.ops import _native

MODES: tuple[Literal["max", "align"], ...] = ("max", "align")
SIXTEEN_BIT = [torch.bfloat16, torch.float16]


def poses(*points: tuple[float, float], device: str = "cpu") -> Tensor:
    """[B, 1, 3], one joint per sample."""
    return torch.tensor([[[x, y, 0.0]] for x, y in points], device=device)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, 1e30, -1e6])
@pytest.mark.parametrize("axis", [0, 1])
def test_an_invalid_joint_has_a_nan_region_and_no_gradient(
    device: str, mode: Literal["max", "align"], bad: float, axis: int
) -> None:
    features = torch.randn(3, 2, 12, 12, device=device)
    pose = poses((0.1, 0.2), (0.1, 0.2), (-0.3, 0.4), device=device)
    clean = ops.pose_roi_pool(features, pose, (0,), mode=mode)
    pose[1, 0, axis] = bad
    features.requires_grad_()
    pose.requires_grad_(mode == "align")
    regions = ops.pose_roi_pool(features, pose, (0,), mode=mode)
    assert regions[1].isnan().all()
    assert_same_bits([regions[0], regions[2]], [clean[0], clean[2]])
    regions.nansum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()
    assert (features.grad[1] == 0).all()
    assert (features.grad[0] != 0).any()
    if mode == "align":
        assert pose.grad is not None
        assert (pose.grad[1] == 0).all()


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *SIXTEEN_BIT])
@pytest.mark.parametrize("mode", MODES)
def test_many_regions_are_those_of_their_parts(dtype: torch.dtype, mode: Literal["max", "align"]) -> None:
    """Of 5 channels: they begin at any place within a vector."""
    samples = 2**23 // (11 * 5 * 49 * dtype.itemsize) + 1
    features, pose = torch.randn(samples, 5, 12, 12).to(dtype), torch.randn(samples, 14, 3)
    pose[7, 3] = math.nan
    regions = ops.pose_roi_pool(features, pose, range(11), mode=mode)
    assert regions.nbytes > 2**23
    parts = zip(features.split(200), pose.split(200), strict=True)
    assert_same_bits([regions], [torch.cat([ops.pose_roi_pool(*part, range(11), mode=mode) for part in parts])])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, *SIXTEEN_BIT])
@pytest.mark.parametrize("output_size", [7, 3])
def test_an_all_nan_bin_is_nan_and_a_nan_outside_it_is_not_seen(
    device: str, dtype: torch.dtype, output_size: int
) -> None:
    features = torch.randn(1, 2, 12, 12, device=device).to(dtype)
    features[0, 0, 3:6, 3:6] = math.nan  # the window's corner: cells 3..9
    regions = ops.pose_roi_pool(features, poses((0.0, 0.0), device=device), (0,), output_size=output_size)
    assert regions[0, 0, 0, 0, 0].isnan()
    assert regions[0, 0, 1].isfinite().all()
    expected = reference.pose_roi_pool(features, poses((0.0, 0.0), device=device), (0,), output_size=output_size)
    assert_same_bits([regions], [expected])


@pytest.mark.parametrize("output_size", [7, 3])
def test_minus_infinity_is_a_value_like_others(device: str, output_size: int) -> None:
    features = torch.full((1, 1, 12, 12), -math.inf, device=device, requires_grad=True)
    regions = ops.pose_roi_pool(features, poses((0.0, 0.0), device=device), (0,), output_size=output_size)
    assert (regions == -math.inf).all()
    (grad,) = torch.autograd.grad(regions, features, torch.ones_like(regions))
    assert grad.sum() == output_size**2


def test_a_gradient_goes_to_the_first_of_equals_and_to_the_first_nan(device: str) -> None:
    features = torch.zeros(1, 1, 12, 12, device=device)
    features[0, 0, 4, 5] = features[0, 0, 5, 4] = math.nan
    features.requires_grad_()
    regions = ops.pose_roi_pool(features, poses((0.0, -1.0), device=device), (0,), output_size=1)  # 3..9, 0..6
    regions.backward(torch.ones_like(regions))
    assert features.grad is not None
    assert features.grad.nonzero().tolist() == [[0, 0, 4, 5]]
    features = torch.zeros(1, 1, 12, 12, device=device, requires_grad=True)
    ops.pose_roi_pool(features, poses((0.0, -1.0), device=device), (0,), output_size=1).sum().backward()
    assert features.grad is not None
    assert features.grad.nonzero().tolist() == [[0, 0, 0, 3]]


def test_a_window_beyond_the_map_pools_to_0_and_takes_no_gradient(device: str) -> None:
    features = torch.randn(1, 2, 3, 3, device=device, requires_grad=True)  # a map of 3x3 cells, windows begin at cell 6
    regions = ops.pose_roi_pool(features, poses((1.0, 1.0), device=device), (0,))
    assert (regions == 0).all()
    regions.sum().backward()
    assert features.grad is not None
    assert (features.grad == 0).all()


@pytest.mark.parametrize("dtype", SIXTEEN_BIT)
def test_coordinates_keep_their_precision_with_16_bit_features(device: str, dtype: torch.dtype) -> None:
    # A window steps at x = 1/12: bfloat16 would move the first x beyond it, float16 the second one before it.
    features = torch.arange(144.0, device=device).reshape(1, 1, 12, 12).to(dtype)
    for x in (0.0833, 0.083338):
        regions = ops.pose_roi_pool(features, poses((x, 0.0), device=device), (0,))
        expected = features[..., 3:10, 3:10] if x < 1 / 12 else features[..., 3:10, 4:11]
        assert torch.equal(regions[:, 0], expected)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("dtype", SIXTEEN_BIT)
def test_16_bit_gradients_are_summed_in_float32(device: str, mode: Literal["max", "align"], dtype: torch.dtype) -> None:
    features = torch.randn(2, 3, 12, 12, device=device).to(dtype).requires_grad_()
    pose = torch.rand(2, 20, 3, device=device) - 0.5
    regions = ops.pose_roi_pool(features, pose, range(20), mode=mode)
    grad = torch.rand_like(regions)
    (actual,) = torch.autograd.grad(regions, features, grad)
    wide = features.detach().double().requires_grad_()
    regions = reference.pose_roi_pool(wide, pose, range(20), mode=mode)
    (expected,) = torch.autograd.grad(regions, wide, grad.double())
    step = torch.finfo(dtype).eps
    torch.testing.assert_close(actual.double(), expected, rtol=step, atol=1e-4)  # rounded once, at the end


def test_a_pose_under_autocast_may_be_16_bit(device: str) -> None:
    features = torch.randn(1, 2, 12, 12, device=device)
    pose = poses((0.5, -0.25), device=device)
    with torch.autocast(torch.device(device).type, dtype=torch.bfloat16):
        regions = ops.pose_roi_pool(features, pose.bfloat16(), (0,))
    assert_same_bits([regions], [ops.pose_roi_pool(features, pose, (0,))])


def test_both_gradients_are_optional(device: str) -> None:
    features = torch.randn(1, 2, 12, 12, device=device)
    pose = poses((0.1, -0.2), device=device)
    for features_too, pose_too in ((True, False), (False, True), (True, True)):
        leaves = [features.clone().requires_grad_(features_too), pose.clone().requires_grad_(pose_too)]
        ops.pose_roi_pool(*leaves, (0,), mode="align").square().sum().backward()
        assert [leaf.grad is not None for leaf in leaves] == [features_too, pose_too]


def test_a_second_gradient_is_refused_clearly(device: str) -> None:
    features = torch.randn(1, 2, 12, 12, device=device, requires_grad=True)
    regions = ops.pose_roi_pool(features, poses((0.1, -0.2), device=device), (0,), mode="align")
    (grad,) = torch.autograd.grad(regions.square().sum(), features, create_graph=True)
    with pytest.raises(RuntimeError, match="pose_roi_pool is differentiable once"):
        grad.sum().backward()


@pytest.mark.parametrize(
    "change",
    [
        {"joints": (0.0, True)},
        {"joints": (0, True)},
        {"output_size": 7.0},
        {"output_size": True},
        {"image_size": 96.0},
        {"sampling_ratio": 2.0},
        {"sampling_ratio": True},
    ],
)
def test_what_equals_a_checked_number_but_is_of_another_type_is_refused(change: dict[str, Any]) -> None:
    features, pose = torch.zeros(1, 2, 12, 12), torch.zeros(1, 2, 3)
    right = {"joints": (0, 1), "output_size": 7, "image_size": 96, "sampling_ratio": 2}
    for arguments in (right, {**right, "output_size": 1}, {**right, "sampling_ratio": 1}):
        ops.pose_roi_pool(features, pose, **arguments)
    with pytest.raises(TypeError, match=rf"{next(iter(change))} is of type (float|bool)"):
        ops.pose_roi_pool(features, pose, **{**right, **change})


def test_tensors_of_another_kind_than_those_checked_are_refused() -> None:
    features, pose = torch.zeros(1, 2, 12, 12), torch.zeros(1, 2, 3)
    ops.pose_roi_pool(features, pose, (0, 1))
    for other, error in (
        (features.int(), TypeError),
        (features.to_sparse(), TypeError),
        (features.to("meta"), ValueError),
        (features[..., :0], ValueError),
    ):
        with pytest.raises(error, match="features"):
            ops.pose_roi_pool(other, pose, (0, 1))
    with pytest.raises(ValueError, match="joints is 1; expected 0 to 0"):
        ops.pose_roi_pool(features, pose[:, :1], (0, 1))


def test_modes_and_subclasses_see_the_op() -> None:
    seen: list[str] = []

    class Dispatched(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(func.name())
            return func(*args, **(kwargs or {}))

    class Called(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(getattr(func, "__name__", ""))
            return func(*args, **(kwargs or {}))

    class Own(Tensor):
        @classmethod
        def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            seen.append(getattr(func, "__name__", ""))
            return super().__torch_function__(func, types, args, kwargs)

    features, pose = torch.randn(1, 2, 12, 12, requires_grad=True), poses((0.1, -0.2))
    expected = ops.pose_roi_pool(features, pose, (0,))
    for mode, name in ((Dispatched(), "poseren::pose_roi_pool"), (Called(), "pose_roi_pool")):
        with mode:
            assert torch.equal(ops.pose_roi_pool(features, pose, (0,)), expected)
        assert name in "".join(seen)
        seen.clear()
    assert torch.equal(ops.pose_roi_pool(features.as_subclass(Own), pose, (0,)), expected)
    assert "pose_roi_pool" in "".join(seen)


def test_the_native_op_refuses_what_does_not_fit_instead_of_reading_it(device: str) -> None:
    features, pose = torch.zeros(2, 1, 12, 12, device=device), torch.zeros(2, 1, 3, device=device)
    settings = (7, 96, 48, 0.125, False, 2)
    for wrong in (
        (features, pose[:1], [0], *settings),
        (features, pose, [1], *settings),
        (features, pose, [-1], *settings),
        (features, pose[..., :1], [0], *settings),
        (features[0], pose, [0], *settings),
        (features, pose, [0], 0, *settings[1:]),
        (features, pose, [0], 7, 96, 96, 0.125, False, 2),
        (features, pose, [0], 7, 96, 48, 1e12, False, 2),
        (features.int(), pose, [0], *settings),
        (features, pose.half(), [0], *settings),
    ):
        with pytest.raises(RuntimeError, match="poseren"):
            _native.ops.pose_roi_pool(*wrong)
    with pytest.raises(RuntimeError, match="grad must be"):
        _native.ops.pose_roi_pool_feature_grad(torch.zeros(2, 1, 1, 7, 6), features, pose, [0], *settings)


@pytest.mark.parametrize("mode", MODES)
def test_indices_beyond_32_bits(device: str, mode: Literal["max", "align"]) -> None:
    side = 36_000  # 2 * 36000^2 > 2^31 elements; only the few that a window sees are ever touched
    features = torch.empty(2, 1, side, side, dtype=torch.bfloat16, device=device)
    features[1, 0, -60:, -60:] = torch.randn(60, 60, dtype=torch.bfloat16, device=device)
    near_end = 1 - 60 / side  # 30 cells from the far corner
    pose = torch.full((1, 1, 3), near_end, device=device)
    geometry = {"image_size": side, "roi_size": 13, "spatial_scale": 1.0, "output_size": 14, "mode": mode}
    regions = ops.pose_roi_pool(features[1:], pose, (0,), **geometry)
    assert regions.isfinite().all()
    assert regions.unique().numel() > 50
    start = int(ops.roi_windows(pose, (0,), image_size=side, roi_size=13, spatial_scale=1.0)[0, 0, 0])
    if mode == "max":
        assert torch.equal(regions[0, 0, 0], features[1, 0, start : start + 14, start : start + 14])
