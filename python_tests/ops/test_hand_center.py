# SPDX-License-Identifier: MIT
"""hand_center: hand-worked centres, the reference on random frames, invalid input, the contract."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from helpers.op_contract import Arguments, Implementation, OpContract, assert_same_bits
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from poseren_ext import ops, reference
from poseren_ext.geometry.camera import Camera
from poseren_ext.ops.image import DEPTHS

CAMERA = Camera(200.0, 180.0, 20.0, 15.0)
INTEGERS = (torch.uint16, torch.int32)


def frames(seed: int, shape: tuple[int, int, int], dtype: torch.dtype = torch.int32) -> Tensor:
    """A hand in front of a wall, with noise and holes."""
    random = np.random.default_rng(seed)
    B, H, W = shape
    v, u = np.mgrid[:H, :W]
    place = random.uniform(0, 1, (B, 2, 1, 1)) * np.array([H, W]).reshape(1, 2, 1, 1)
    near = (v - place[:, 0]) ** 2 + (u - place[:, 1]) ** 2 < (0.3 * max(H, W)) ** 2
    depth = np.where(near, 600, 1200) + random.normal(0, 40, shape)
    depth[random.random(shape) < 0.1] = 0
    return torch.from_numpy(depth).to(torch.int32).to(dtype)


def test_worked_out_by_hand(implementation: Implementation) -> None:
    module, device = implementation
    depth = torch.zeros(2, 4, 5, dtype=torch.int32)
    depth[0, 1, 2], depth[0, 1, 4], depth[0, 3, 0] = 600, 700, 800
    depth[0, 0, 0] = 2000
    center, count = module.hand_center(depth.to(device), near=500, far=800)
    torch.testing.assert_close(center[0].cpu(), torch.tensor([2.0, 5 / 3, 700.0]))
    assert center[1].isnan().all()
    assert count.tolist() == [3, 0]
    assert (center.dtype, count.dtype) == (torch.float32, torch.int64)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    shape=st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(1, 150)),
    dtype=st.sampled_from(DEPTHS),
    unit=st.sampled_from([1.0, 0.125, 0.3]),
    masked=st.booleans(),
    iterations=st.integers(0, 3),
)
def test_equals_the_reference_on_random_frames(
    seed: int, shape: tuple[int, int, int], dtype: torch.dtype, unit: float, masked: bool, iterations: int
) -> None:
    depth = frames(seed, shape, dtype)
    options: dict[str, Any] = {"near": 300 * unit, "far": 900 * unit, "depth_unit": unit, "iterations": iterations}
    if masked:
        options["mask"] = torch.from_numpy(np.random.default_rng(seed).random(shape) < 0.7)
    options |= {"camera": CAMERA, "cube": 100 * unit}
    center, count = ops.hand_center(depth, **options)
    expected, expected_count = reference.hand_center(depth, **options)
    assert torch.equal(count, expected_count)
    tolerance = 0.0 if dtype in INTEGERS else 1e-6  # the order of float64 sums
    torch.testing.assert_close(center, expected, rtol=tolerance, atol=0, equal_nan=True)


def test_integer_sums_are_exact(implementation: Implementation) -> None:
    module, device = implementation
    depth = torch.full((1, 1024, 2048), 65535, dtype=torch.int32).to(torch.uint16).to(device)
    center, count = module.hand_center(depth, near=1, far=65535)
    assert center.tolist() == [[1023.5, 511.5, 65535.0]]
    assert count.item() == 1024 * 2048


def test_rows_longer_than_a_chunk_of_sums(device: str) -> None:
    depth = torch.full((2, 2, 100_001), 60_000, dtype=torch.int32)
    depth[1, :, :99_999] = 0
    for dtype in (torch.uint16, torch.int32, torch.float32):
        center, count = ops.hand_center(depth.to(dtype).to(device), near=1, far=65535)
        assert center.tolist() == [[50_000.0, 0.5, 60_000.0], [99_999.5, 0.5, 60_000.0]]
        assert count.tolist() == [200_002, 4]


def test_the_bounds_belong_to_the_range(implementation: Implementation) -> None:
    module, device = implementation
    depth = torch.tensor([[499.0, 500.0, 800.0, 801.0]], device=device)
    assert module.hand_center(depth, near=500, far=800)[1] == 2


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_what_is_not_finite_is_never_valid(implementation: Implementation, dtype: torch.dtype) -> None:
    module, device = implementation
    depth = torch.tensor([[math.nan, math.inf, -math.inf, 600.0]], dtype=dtype, device=device)
    for near, far in ((-math.inf, math.inf), (0, 1e9)):
        center, count = module.hand_center(depth, near=near, far=far)
        assert count == 1
        assert center.tolist() == [3.0, 0.0, 600.0]


def test_an_empty_cube_keeps_the_last_centre(implementation: Implementation) -> None:
    module, device = implementation
    ring = torch.zeros(21, 21, dtype=torch.int32)
    ring[0], ring[-1], ring[:, 0], ring[:, -1] = 500, 500, 500, 500
    plain = module.hand_center(ring.to(device), near=1, far=1000)
    refined = module.hand_center(ring.to(device), near=1, far=1000, iterations=3, cube=5.0, camera=CAMERA)
    assert_same_bits(refined, plain)


def test_frames_without_pixels(implementation: Implementation) -> None:
    module, device = implementation
    for shape in ((2, 0, 5), (2, 5, 0)):
        center, count = module.hand_center(torch.zeros(shape, device=device), near=1, far=2)
        assert center.isnan().all()
        assert count.tolist() == [0, 0]


def test_a_view_of_larger_frames(device: str) -> None:
    whole = frames(0, (4, 50, 70), torch.uint16).to(device)
    view = whole[::2, 3:40, 5:60]
    assert_same_bits(ops.hand_center(view, near=300, far=900), ops.hand_center(view.clone(), near=300, far=900))
    mask = torch.ones(50, 70, dtype=torch.bool, device=device)[3:40, 5:60].expand(2, 37, 55)
    assert_same_bits(ops.hand_center(view, near=300, far=900, mask=mask), ops.hand_center(view, near=300, far=900))


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"depth": torch.zeros(2, 3, 4, dtype=torch.float64)}, TypeError, "float64; expected float32, uint16"),
        ({"depth": [[1]]}, TypeError, r"list; expected .* \(torch.as_tensor converts\)"),
        ({"depth": torch.zeros(2, 1, 3, 4)}, ValueError, r"\(2, 1, 3, 4\); expected \[B, H, W\]"),
        ({"near": 900}, ValueError, "near is 900.0 and far 800.0; expected near <= far"),
        ({"near": math.nan}, ValueError, "near is nan"),
        ({"far": "all"}, TypeError, "far is of type str; expected a number: farthest valid depth in mm"),
        ({"depth_unit": 0.0}, ValueError, "depth_unit is 0.0; expected a positive"),
        ({"iterations": -1}, ValueError, "iterations is -1; expected 0"),
        ({"iterations": 1.5}, TypeError, "iterations is of type float; expected an integer"),
        ({"iterations": 1}, ValueError, "camera is None; give the frames' camera"),
        ({"mask": torch.zeros(2, 3, 4)}, TypeError, "mask has dtype torch.float32; expected bool"),
        ({"mask": torch.ones(3, 4, dtype=torch.bool)}, ValueError, r"mask has shape \(3, 4\); expected \[2, 3, 4\]"),
        ({"camera": CAMERA, "cube": -1.0}, ValueError, "cube is -1.0; expected a positive number: half edge in mm"),
        ({"camera": CAMERA, "cube": torch.ones(5)}, ValueError, r"expected a scalar, \[2\] or \[2, 3\]"),
        ({"camera": (500.0, -500.0, 0.0, 0.0)}, ValueError, "camera fy is -500.0; expected a positive"),
        ({"camera": torch.ones(5, 4)}, ValueError, r"\(5, 4\); expected \[4\] or \[2, 4\]"),
    ],
)
def test_bad_arguments(changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments: dict[str, Any] = {"depth": torch.zeros(2, 3, 4), "near": 500, "far": 800} | changes
    with pytest.raises(error, match=message):
        ops.hand_center(**arguments)


def test_the_native_op_has_a_net_of_its_own(device: str) -> None:
    from poseren_ext.ops import _native

    depth = torch.zeros(2, 3, 4, device=device)
    for arguments in (
        (depth[0], None, None, None, 1.0, 2.0, 1.0, 0),
        (depth.double(), None, None, None, 1.0, 2.0, 1.0, 0),
        (depth, depth > 0, None, None, 1.0, 2.0, 1.0, 1),
        (depth, depth[:1] > 0, None, None, 1.0, 2.0, 1.0, 0),
        (depth, None, torch.ones(2, 3, device=device), torch.ones(2, 3, device=device), 1.0, 2.0, 1.0, 1),
    ):
        with pytest.raises(RuntimeError, match="hand_center"):
            _native.ops.hand_center(*arguments)


class TestContract(OpContract):
    name = "hand_center"
    main = "depth"
    dtypes = DEPTHS
    refused_dtypes = (torch.bool, torch.complex64, torch.int64, torch.float64, torch.uint8)
    batched = ("depth", "mask", "camera", "cube")
    output_axes = (0, 0)
    tolerance = {torch.float32: 1e-6}  # noqa: RUF012  float64 sums in another order, rounded

    def arguments(self, device: str, dtype: torch.dtype, batch: int = 3) -> Arguments:
        return {
            "depth": frames(int(torch.randint(1000, ())), (batch, 36, 71), dtype).to(device),
            "mask": (torch.rand(batch, 36, 71) < 0.8).to(device),
            "camera": (CAMERA.tensor() + torch.rand(batch, 4)).to(device),
            "cube": (60 + 20 * torch.rand(batch, 3)).to(device),
            "near": 300.0,
            "far": 900.0,
            "iterations": 2,
        }

    def native_arguments(self, arguments: Arguments) -> tuple[Any, ...]:
        tensors = (arguments[name] for name in self.batched)
        return (*tensors, arguments["near"], arguments["far"], 1.0, arguments["iterations"])
