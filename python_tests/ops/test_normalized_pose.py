# SPDX-License-Identifier: MIT
"""normalize_pose and denormalize_pose: hand-worked cases, inverse to each other, equal to the reference, errors."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.op_contract import Implementation
from hypothesis import given, settings
from hypothesis import strategies as st

from poseren_ext import ops, reference
from poseren_ext.geometry.camera import CAMERAS, Camera

CAMERA = Camera(500.0, 400.0, 320.0, 240.0)


def test_worked_out_by_hand(implementation: Implementation) -> None:
    module, device = implementation
    # At 1000 mm a half edge of 100 mm spans 50 columns and 40 rows.
    center = torch.tensor([300.0, 200.0, 1000.0], device=device)
    uvd = torch.tensor([[300.0, 200.0, 1000.0], [350.0, 160.0, 950.0], [275.0, 220.0, 1200.0]], device=device)
    pose = module.normalize_pose(uvd, center, CAMERA, cube=100.0)
    expected = torch.tensor([[0.0, 0.0, 0.0], [1.0, -1.0, -0.5], [-0.5, 0.5, 2.0]])
    torch.testing.assert_close(pose.cpu(), expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(module.denormalize_pose(pose, center, CAMERA, cube=100.0), uvd)
    edges = torch.tensor([200.0, 50.0, 100.0], device=device)  # the same joints in a cube with an edge for each axis
    pose = module.normalize_pose(uvd, center, CAMERA, cube=edges)
    torch.testing.assert_close(pose.cpu(), expected * torch.tensor([0.5, 2.0, 1.0]), rtol=0, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    seed=st.integers(0, 10**6),
    B=st.integers(0, 4),
    J=st.integers(1, 21),
    dtype=st.sampled_from([torch.float32, torch.float64, torch.float16, torch.bfloat16]),
    own=st.booleans(),
)
def test_equal_to_the_reference_and_inverse_to_each_other(
    seed: int, B: int, J: int, dtype: torch.dtype, own: bool
) -> None:
    random = torch.Generator().manual_seed(seed)
    uvd = torch.tensor([640.0, 480.0, 400.0]) * torch.rand(B, J, 3, generator=random) + torch.tensor([0, 0, 500.0])
    center = uvd.mean(1)
    arguments: dict[str, Any] = {"camera": CAMERAS["nyu"], "cube": 150.0}
    if own:
        arguments["camera"] = CAMERAS["nyu"].tensor() + torch.rand(B, 4, generator=random)
        arguments["cube"] = 100 + 100 * torch.rand(B, 3, generator=random)
    uvd = uvd.to(dtype)
    pose = ops.normalize_pose(uvd, center, **arguments)
    assert pose.dtype == torch.promote_types(dtype, torch.float32)
    torch.testing.assert_close(pose, reference.normalize_pose(uvd, center, **arguments), rtol=1e-5, atol=1e-6)
    back = ops.denormalize_pose(pose, center, **arguments)
    torch.testing.assert_close(back, uvd.to(back.dtype), rtol=1e-5, atol=1e-3)
    torch.testing.assert_close(back, reference.denormalize_pose(pose, center, **arguments), rtol=1e-5, atol=1e-3)


def test_a_sample_without_a_centre_is_nan_and_alone(implementation: Implementation) -> None:
    module, device = implementation
    good = [300.0, 200.0, 1000.0]
    for bad in ([math.nan, 200.0, 1000.0], [300.0, math.inf, 1000.0], [300.0, 200.0, 0.0], [300.0, 200.0, -1.0]):
        center = torch.tensor([good, bad], device=device)
        for function in (module.normalize_pose, module.denormalize_pose):
            result = function(torch.ones(2, 5, 3, device=device), center, CAMERA)
            assert result[0].isfinite().all()
            assert result[1].isnan().all()


def test_gradients_and_one_graph(device: str) -> None:
    torch._dynamo.reset()
    uvd = torch.tensor([[[310.0, 190.0, 980.0]]], dtype=torch.float64, device=device, requires_grad=True)
    center = torch.tensor([[300.0, 200.0, 1000.0]], dtype=torch.float64, device=device, requires_grad=True)
    for function in (ops.normalize_pose, ops.denormalize_pose):
        assert torch.autograd.gradcheck(lambda *points, f=function: f(*points, CAMERA), (uvd, center))
        compiled = torch.compile(function, fullgraph=True, backend="eager")
        torch.testing.assert_close(compiled(uvd, center, CAMERA), function(uvd, center, CAMERA))


@pytest.mark.parametrize("function", [ops.normalize_pose, ops.denormalize_pose])
@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        ({"joints": [[1.0]]}, TypeError, r"is of type list; expected .* \(torch.as_tensor converts\)"),
        ({"joints": torch.zeros(2, 14, 3, dtype=torch.int64)}, TypeError, "dtype torch.int64; expected float32"),
        ({"joints": torch.zeros(2, 14, 2)}, ValueError, r"\(2, 14, 2\); expected \[B, J, 3\]"),
        ({"joints": torch.zeros(3)}, ValueError, r"\(3,\); expected \[B, J, 3\], or the same without the batch axis"),
        ({"center": torch.zeros(3)}, ValueError, r"center has shape \(3,\); expected \[2, 3\]"),
        ({"center": torch.zeros(2, 3, device="meta")}, ValueError, "move both to one device"),
        ({"camera": None}, TypeError, "camera is a NoneType"),
        ({"camera": (1.0, 2.0)}, ValueError, "camera has 2 numbers"),
        ({"cube": -150.0}, ValueError, "cube is -150.0"),
    ],
)
def test_bad_arguments(function: Any, changes: dict[str, Any], error: type[Exception], message: str) -> None:
    arguments = {"joints": torch.zeros(2, 14, 3), "center": torch.ones(2, 3), "camera": CAMERA, "cube": 150.0} | changes
    with pytest.raises(error, match=message):
        function(arguments["joints"], arguments["center"], arguments["camera"], cube=arguments["cube"])
