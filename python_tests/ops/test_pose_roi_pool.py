# SPDX-License-Identifier: MIT
"""pose_roi_pool: hand-worked regions, the contract in both modes, gradients against those of the reference."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import pytest
import torch
from helpers.op_contract import Arguments, Implementation, OpContract
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from poseren_ext import ops, reference


def numbered_map(device: str, size: int = 12) -> Tensor:
    """[1, 1, size, size]: cell (row, column) holds 100 * row + column."""
    row, column = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    return (100.0 * row + column)[None, None].to(device)


def at(device: str, x: float, y: float) -> Tensor:
    return torch.tensor([[[x, y, 0.0]]], device=device)


def test_a_window_of_the_networks_size_is_a_crop(implementation: Implementation) -> None:
    module, device = implementation
    region = module.pose_roi_pool(numbered_map(device), at(device, 0.0, -1.0), (0,))  # columns 3..9, rows 0..6
    assert torch.equal(region[0, 0], numbered_map(device)[0, :, 0:7, 3:10])


def test_what_lies_outside_the_map_is_0(implementation: Implementation) -> None:
    module, device = implementation
    region = module.pose_roi_pool(numbered_map(device) + 1, at(device, 1.0, 1.0), (0,))[0, 0, 0]  # 6..12 of 0..11
    assert torch.equal(region[:6, :6], numbered_map(device)[0, 0, 6:, 6:] + 1)
    assert (region[6] == 0).all()
    assert (region[:, 6] == 0).all()


def test_a_bin_is_the_largest_of_its_cells(implementation: Implementation) -> None:
    module, device = implementation
    # 7 cells, 3 bins: [0, 3), [2, 5), [4, 7) after the window's start: columns 3.., rows 0..
    region = module.pose_roi_pool(numbered_map(device), at(device, 0.0, -1.0), (0,), output_size=3)[0, 0, 0]
    assert region.tolist() == [[205, 207, 209], [405, 407, 409], [605, 607, 609]]


def test_more_bins_than_cells_repeat_cells(implementation: Implementation) -> None:
    module, device = implementation
    # 14 bins over 7 cells: bin p covers [floor(p/2), ceil((p+1)/2)), one cell.
    region = module.pose_roi_pool(numbered_map(device), at(device, 0.0, -1.0), (0,), output_size=14)[0, 0, 0]
    assert region[0].tolist() == [3, 3, 4, 4, 5, 5, 6, 6, 7, 7, 8, 8, 9, 9]


def test_the_larger_published_bins_equal_max_pooling(implementation: Implementation) -> None:
    module, device = implementation
    features = torch.randn(2, 3, 12, 12, device=device)
    pose = torch.zeros(2, 1, 3, device=device)  # cells 4..9 of a 40 px window
    regions = module.pose_roi_pool(features, pose, (0,), output_size=3, roi_size=40)
    assert torch.equal(regions[:, 0], torch.nn.functional.max_pool2d(features[:, :, 4:10, 4:10], 2))


def test_align_of_a_plane_gives_the_positions_of_the_samples(implementation: Implementation) -> None:
    module, device = implementation
    # The window of a joint at the centre begins 24 px into the crop: 3 cells, 2.5 with cell centres at whole numbers.
    # It is 6 cells wide: bin p of 7 has its middle at 2.5 + (p + 0.5) * 6 / 7.
    region = module.pose_roi_pool(numbered_map(device), at(device, 0.0, 0.0), (0,), mode="align")[0, 0, 0]
    middle = 2.5 + (torch.arange(7, device=device) + 0.5) * 6 / 7
    torch.testing.assert_close(region, 100 * middle[:, None] + middle, rtol=1e-6, atol=1e-4)


def test_align_is_grid_sample_with_one_sample_a_bin(implementation: Implementation) -> None:
    module, device = implementation
    features = torch.randn(1, 4, 12, 12, dtype=torch.float64, device=device)
    region = module.pose_roi_pool(features, at(device, 0.1, -0.2).double(), (0,), mode="align", sampling_ratio=1)
    steps = (torch.arange(7, dtype=torch.float64, device=device) + 0.5) / 7 * 0.5 - 0.25  # of the crop, about the joint
    grid = torch.stack(torch.meshgrid(2 * steps + 0.1, 2 * steps - 0.2, indexing="xy"), -1)[None]
    expected = torch.nn.functional.grid_sample(features, grid, align_corners=False)
    torch.testing.assert_close(region[:, 0], expected, rtol=0, atol=1e-6)  # the pose went through float32


def test_align_counts_samples_far_outside_as_0_and_moves_near_ones_onto_the_map(implementation: Implementation) -> None:
    module, device = implementation
    features = torch.ones(1, 1, 12, 12, device=device)
    region = module.pose_roi_pool(
        features, at(device, -1.0, 0.0), (0,), output_size=6, mode="align", sampling_ratio=1
    )  # one sample a cell, at -3, -2, -1, 0, 1, 2 columns
    assert region[0, 0, 0, 0].tolist() == [0, 0, 1, 1, 1, 1]


coordinate = st.floats(-1.5, 1.5, width=32) | st.sampled_from([math.nan, math.inf, 0.5, -0.25, 1.0])


@st.composite
def pooling(draw: Any) -> Arguments:
    image = draw(st.integers(2, 120))
    height, width, channels = draw(st.integers(1, 14)), draw(st.integers(1, 14)), draw(st.integers(0, 3))
    joints = draw(st.integers(1, 4))
    batch = draw(st.integers(0, 3))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 1000)))
    pose = draw(st.lists(st.tuples(coordinate, coordinate), min_size=batch * joints, max_size=batch * joints))
    return {
        "features": torch.randn(batch, channels, height, width, dtype=torch.float64, generator=generator),
        "pose": torch.tensor(pose, dtype=torch.float32).reshape(batch, joints, 2),
        "joints": draw(st.lists(st.integers(0, joints - 1), min_size=1, max_size=5)),
        "output_size": draw(st.sampled_from([1, 2, 3, 6, 7, 9])),
        "image_size": image,
        "roi_size": draw(st.integers(1, image - 1)),
        "spatial_scale": draw(st.sampled_from([0.125, 0.25, 1 / 3, 1.0])),
    }


@settings(max_examples=80, deadline=None)
@given(pooling())
def test_max_equals_the_reference_with_its_gradient(arguments: Arguments) -> None:
    assert_equal_with_gradients(arguments, ("features",), 1e-12)


@settings(max_examples=80, deadline=None)
@given(pooling(), st.integers(1, 3))
def test_align_equals_the_reference_with_its_gradients(arguments: Arguments, ratio: int) -> None:
    arguments["pose"] = arguments["pose"].double()
    assert_equal_with_gradients(
        {**arguments, "mode": "align", "sampling_ratio": ratio}, ("features", "pose"), 1e-4 if ratio == 3 else 1e-5
    )


@pytest.mark.parametrize("size", [(12, 12), (4, 2), (2, 5), (1, 9), (3, 1), (14, 16), (40, 20)])
@pytest.mark.parametrize("roi_size", [40, 48])
@pytest.mark.parametrize("channels", [1, 2, 33])
def test_windows_wherever_they_leave_a_map_of_any_size(size: tuple[int, int], roi_size: int, channels: int) -> None:
    """Crops of 6 and 7 cells in maps that are smaller than the image says: partly and wholly outside."""
    generator = torch.Generator().manual_seed(1)
    pose = torch.cartesian_prod(torch.linspace(-1, 1, 7), torch.linspace(-1, 1, 7))[:, None]
    features = torch.randn(len(pose), channels, *size, generator=generator)
    for maps in (features, features[:, :, :, :-1], features.transpose(2, 3)):
        if maps.shape[-1]:
            options = {"image_size": 96, "roi_size": roi_size, "output_size": roi_size // 8 + 1}
            arguments: Arguments = {"features": maps, "pose": pose, "joints": [0], **options}
            assert_equal_with_gradients(arguments, ("features",), 1e-6)


def test_a_sample_one_cell_off_the_map_counts_as_in_the_reference() -> None:
    """Within a rounding of a scale that float32 does not hold."""
    arguments: Arguments = {
        "features": torch.tensor([[[[1.5], [-0.25]]]], dtype=torch.float64),
        "pose": torch.tensor([[[-0.25, 0.0]]], dtype=torch.float64),
        "joints": [0],
        "output_size": 1,
        "image_size": 12,
        "roi_size": 1,
        "spatial_scale": 1 / 3,
    }
    options = {"mode": "align", "sampling_ratio": 1}
    assert_equal_with_gradients({**arguments, **options}, ("features", "pose"), 1e-12)


def assert_equal_with_gradients(arguments: Arguments, differentiable: tuple[str, ...], bound: float) -> None:
    results = []
    for function in (ops.pose_roi_pool, reference.pose_roi_pool):
        leaves = [arguments[name].clone().requires_grad_() for name in differentiable]
        regions = function(**{**arguments, **dict(zip(differentiable, leaves, strict=True))})
        grad = torch.linspace(-1, 1, regions.numel(), dtype=regions.dtype).reshape(regions.shape)
        results.append([regions, *torch.autograd.grad(regions, leaves, grad)])
    for actual, expected in zip(*results, strict=True):
        torch.testing.assert_close(actual, expected, rtol=bound, atol=bound, equal_nan=True)


class PoolContract(OpContract):
    name = "pose_roi_pool"
    main = "features"
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    batched = ("features", "pose")
    mode: str

    def arguments(self, device: str, dtype: torch.dtype, batch: int = 3) -> Arguments:
        features = torch.randn(batch, 5, 12, 12)
        pose = torch.empty(batch, 6, 3).uniform_(-1.2, 1.2)
        pose[1:2, 2] = math.nan
        return {
            "features": features.to(device, dtype),
            "pose": pose.to(device),
            "joints": (0, 2, 5, 5),
            "mode": self.mode,
        }

    def native_arguments(self, arguments: Arguments) -> tuple[Any, ...]:
        pose = arguments["pose"].detach().nan_to_num().requires_grad_(arguments["pose"].requires_grad)
        output_size = arguments.get("output_size", 7)
        joints = list(arguments["joints"])
        return arguments["features"], pose, joints, output_size, 96, 48, 0.125, self.mode == "align", 2

    def gradcheck_arguments(self, device: str) -> Arguments:
        pose = torch.tensor([[0.13, -0.31, 0.0], [-0.52, 0.77, 0.0], [0.91, 0.04, 0.0]], dtype=torch.float64)
        return {
            "features": torch.randn(2, 1, 6, 6, dtype=torch.float64, device=device),
            "pose": torch.stack([pose, pose.flip(0) + 0.017]).to(device),
            "joints": (0, 1, 2, 1),
            "output_size": 3,
            "image_size": 48,
            "roi_size": 24,
            "mode": self.mode,
        }


class TestMax(PoolContract):
    mode = "max"
    differentiable = ("features",)


class TestMaxOfLargeBins(PoolContract):
    mode = "max"
    differentiable = ("features",)

    def arguments(self, device: str, dtype: torch.dtype, batch: int = 3) -> Arguments:
        return {**super().arguments(device, dtype, batch), "output_size": 4}


class TestAlign(PoolContract):
    mode = "align"
    differentiable = ("features", "pose")
    tolerance: ClassVar[dict[torch.dtype, float]] = {
        torch.float64: 1e-6,
        torch.float32: 1e-5,
        torch.bfloat16: 1e-2,
        torch.float16: 2e-3,
    }


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"output_size": 0}, ValueError, r"output_size is 0; expected 1 to"),
        ({"output_size": 7.0}, TypeError, r"output_size is of type float"),
        ({"sampling_ratio": 0}, ValueError, r"sampling_ratio is 0"),
        ({"mode": "mean"}, ValueError, r"mode is 'mean'; expected one of 'max', 'align'"),
        ({"joints": (0, 9)}, ValueError, r"joints is 9; expected 0 to 4"),
        ({"roi_size": 97}, ValueError, r"roi_size is 97; expected 1 to 95"),
        ({"features": torch.zeros(2, 4, 0, 12)}, ValueError, r"features have shape .* at least one cell"),
        ({"features": torch.zeros(3, 4, 12, 12)}, ValueError, r"features have shape .* and pose has shape .* of one B"),
        ({"pose": torch.zeros(5, 3)}, ValueError, r"pose has shape \(5, 3\); expected"),
        ({"pose": torch.zeros(2, 5, 1)}, ValueError, r"pose has shape \(2, 5, 1\); expected"),
    ],
)
def test_refuses_what_makes_no_region(change: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments = {"features": torch.zeros(2, 4, 12, 12), "pose": torch.zeros(2, 5, 3), "joints": (0,), **change}
    with pytest.raises(error, match=words):
        ops.pose_roi_pool(**arguments)
