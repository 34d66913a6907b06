# SPDX-License-Identifier: MIT
"""roi_windows: hand-worked windows, then the contract."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from helpers.op_contract import Arguments, Implementation, OpContract
from hypothesis import given, settings
from hypothesis import strategies as st

from poseren_ext import ops, reference

# x, then the first and last cell of the published geometry: a crop of 96 px, windows of 48 px, 8 px a cell.
WORKED = [
    (-1.0, 0, 6),  # around 0: moved to pixels 0..48, cells 0 and 6
    (-0.9, 0, 6),  # around 4.8: 0..48
    (-0.5, 0, 6),  # around 24: exactly 0..48
    (-0.25, 2, 8),  # around 36: 12..60, cells 1.5 and 7.5, halves up
    (-0.25 - 1e-7, 1, 7),
    (0.25, 5, 11),  # 36..84: cells 4.5 and 10.5; torch.round would give 4 and 10
    (0.25 - 1e-7, 4, 10),
    (-0.26, 1, 7),  # around 35.52: 11.52..59.52, cells 1.44 and 7.44
    (0.0, 3, 9),  # around 48: 24..72
    (0.1, 4, 10),  # around 52.8: 28.8..76.8, cells 3.6 and 9.6
    (0.5, 6, 12),  # around 72: 48..96 reaches 95: moved to 47..95, cells 5.875 and 11.875
    (1.5, 6, 12),  # around 120: the same; the last cell lies one beyond a map of 12
    (-7.0, 0, 6),
    (-2e30, -1, -1),
    (math.nan, -1, -1),
    (math.inf, -1, -1),
    (-math.inf, -1, -1),
    (1e6, -1, -1),  # as good as infinite
    (9e5, 6, 12),
]


@pytest.mark.parametrize(("x", "first", "last"), WORKED)
def test_window_worked_out_by_hand(implementation: Implementation, x: float, first: int, last: int) -> None:
    module, device = implementation
    pose = torch.tensor([[[x, 0.0, 0.0], [0.0, x, math.nan]]], device=device)
    invalid = first < 0
    row = [-1] * 4 if invalid else [first, 3, last, 9]
    column = [-1] * 4 if invalid else [3, first, 9, last]
    assert module.roi_windows(pose, (0, 1)).tolist() == [[row, column]]


def test_a_smaller_window_and_another_scale(implementation: Implementation) -> None:
    module, device = implementation
    # 40 px around 48: 28..68. At a cell per 8 px: 3.5..8.5, cells 4..9. At a cell per 4 px: 7..17.
    pose = torch.zeros(1, 1, 3, device=device)
    assert module.roi_windows(pose, (0,), roi_size=40).tolist() == [[[4, 4, 9, 9]]]
    assert module.roi_windows(pose, (0,), roi_size=40, spatial_scale=0.25).tolist() == [[[7, 7, 17, 17]]]


def test_a_window_of_single_pixels_is_moved_inside_the_crop(implementation: Implementation) -> None:
    module, device = implementation
    # x: 1.6 * 6 = 9.6 -> 7.6..11.6, moved to 7..11; y: 0.2 * 6 = 1.2 -> -0.8..3.2, moved to 0..4
    # x: 1.45 * 6 = 8.7 -> 6.7..10.7: inside as it is
    pose = torch.tensor([[[0.6, -0.8], [0.45, 0.0]]], device=device)
    windows = module.roi_windows(pose, (0, 1), image_size=12, roi_size=4, spatial_scale=1.0)
    assert windows.tolist() == [[[7, 0, 11, 4], [7, 4, 11, 8]]]


def test_joints_are_looked_at_in_the_order_asked_for(implementation: Implementation) -> None:
    module, device = implementation
    pose = torch.tensor([[[-1.0, -1, 0], [0, 0, 0], [1, 1, 0]]], device=device)
    windows = module.roi_windows(pose, (2, 0, 2))
    assert windows[0, :, 0].tolist() == [6, 0, 6]


def test_published_windows_have_49_cells_and_start_in_0_to_6(device: str) -> None:
    pose = torch.linspace(-3, 3, 10001, device=device)[:, None].repeat(1, 2)[None]
    windows = ops.roi_windows(pose, range(0, 10001, 100))
    assert ((windows[..., 2:] - windows[..., :2]) == 6).all()
    assert windows[..., :2].unique().tolist() == [0, 1, 2, 3, 4, 5, 6]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_equals_the_reference_for_any_geometry(data: Any) -> None:
    image = data.draw(st.integers(2, 300))
    geometry = {
        "image_size": image,
        "roi_size": data.draw(st.integers(1, image - 1)),
        "spatial_scale": data.draw(st.sampled_from([0.125, 0.1, 1 / 3, 1.0, 2.0])),
    }
    coordinate = st.floats(-2, 2, width=32) | st.sampled_from([math.nan, math.inf, -1e7, 0.5, -0.25])
    pose = torch.tensor(data.draw(st.lists(st.tuples(coordinate, coordinate), min_size=1, max_size=20)))[None]
    joints = range(pose.shape[1])
    assert torch.equal(ops.roi_windows(pose, joints, **geometry), reference.roi_windows(pose, joints, **geometry))


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"joints": (0, 5)}, ValueError, r"joints is 5; expected 0 to 4"),
        ({"joints": (-1,)}, ValueError, r"joints is -1; expected 0 to 4"),
        ({"joints": ()}, ValueError, r"joints names 0 guided joints; expected 1 to 128"),
        ({"joints": (0,) * 129}, ValueError, r"joints names 129"),
        ({"joints": (0.5,)}, TypeError, r"joints is of type float"),
        ({"roi_size": 96}, ValueError, r"roi_size is 96; expected 1 to 95"),
        ({"roi_size": 0}, ValueError, r"roi_size is 0"),
        ({"spatial_scale": 0.0}, ValueError, r"spatial_scale is 0.0; expected a positive number"),
        ({"spatial_scale": math.nan}, ValueError, r"spatial_scale is nan"),
        ({"spatial_scale": 1e30}, ValueError, r"below 2\^24 cells"),
        ({"image_size": 96.5}, TypeError, r"image_size is of type float"),
        ({"pose": torch.zeros(2, 5, 1)}, ValueError, r"pose has shape \(2, 5, 1\); expected"),
    ],
)
def test_refuses_what_makes_no_window(change: dict[str, Any], error: type[Exception], words: str) -> None:
    arguments = {"pose": torch.zeros(2, 5, 3), "joints": (0,), **change}
    with pytest.raises(error, match=words):
        ops.roi_windows(**arguments)


class TestContract(OpContract):
    name = "roi_windows"
    main = "pose"
    dtypes = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
    batched = ("pose",)

    def arguments(self, device: str, dtype: torch.dtype, batch: int = 3) -> Arguments:
        pose = torch.empty(batch, 14, 3).uniform_(-1.3, 1.3)
        pose[1:2, 2] = math.nan
        return {"pose": pose.to(device, dtype), "joints": (0, 2, 13, 7)}

    def native_arguments(self, arguments: Arguments) -> tuple[Any, ...]:
        return arguments["pose"].float(), list(arguments["joints"]), 96, 48, 0.125
