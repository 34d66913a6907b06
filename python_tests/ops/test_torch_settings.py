# SPDX-License-Identifier: MIT
"""The ops under strict export, torch.fx, other defaults of torch, and arrays in another byte order or read-only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from helpers.depth_cases import rough_frames
from helpers.heads import narrow_config, random_head, scene
from torch import Tensor, fx, nn

from poseren_ext import SKELETONS, Camera, HeadConfig, ops
from poseren_ext.ops.image import DEPTHS

CAMERA = Camera(80.0, 80.0, 40.0, 30.0)
CONFIG = narrow_config()
GUIDED = random_head(CONFIG)
GRID = random_head(HeadConfig.init_cnn(SKELETONS["nyu14"], widths=(24, 16), channels=4))


def inputs(batch: int) -> dict[str, Tensor]:
    features, pose = scene(batch, CONFIG)
    center = torch.tensor([[40.0, 30.0, 800.0]]).repeat(batch, 1)
    return {
        "depth": rough_frames(2, (batch, 60, 80), torch.float32),
        "center": center,
        "features": features,
        "pose": pose,
        "uvd": center[:, None] + 20 * pose,
    }


OPS: dict[str, tuple[Callable[..., Any], tuple[str, ...]]] = {
    "hand_center": (lambda d: ops.hand_center(d, near=1, far=2000, iterations=2, camera=CAMERA), ("depth",)),
    "depth_crop": (lambda d, c: ops.depth_crop(d, c, CAMERA, size=24), ("depth", "center")),
    "normalize_pose": (lambda j, c: ops.normalize_pose(j, c, CAMERA), ("uvd", "center")),
    "denormalize_pose": (lambda p, c: ops.denormalize_pose(p, c, CAMERA), ("pose", "center")),
    "roi_windows": (lambda p: ops.roi_windows(p, (0, 3)), ("pose",)),
    "pose_roi_pool max": (lambda f, p: ops.pose_roi_pool(f, p, (0, 3)), ("features", "pose")),
    "pose_roi_pool align": (lambda f, p: ops.pose_roi_pool(f, p, (0, 3), mode="align"), ("features", "pose")),
    "cascade_refine": (lambda f, p: ops.cascade_refine(f, p, GUIDED, stages=2), ("features", "pose")),
    "run_grid": (lambda f: ops.run_grid(f, GRID), ("features",)),
}


class Calls(nn.Module):
    """A module that calls one op."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.function = OPS[name][0]
        self.guided, self.grid = GUIDED, GRID  # so that their weights belong to the module

    def forward(self, *tensors: Tensor) -> Any:
        return self.function(*tensors)


def arguments(name: str, batch: int) -> list[Tensor]:
    values = inputs(batch)
    return [values[key] for key in OPS[name][1]]


def assert_same(actual: Any, expected: Any) -> None:
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("strict", [True, False], ids=["strict", "not strict"])
@pytest.mark.parametrize("name", OPS)
def test_an_exported_op_gives_the_same_bits_for_any_batch(name: str, strict: bool) -> None:
    function = OPS[name][0]
    shapes = (tuple({0: torch.export.Dim("batch")} for _ in OPS[name][1]),)
    program = torch.export.export(Calls(name), tuple(arguments(name, 2)), dynamic_shapes=shapes, strict=strict)
    for batch in (2, 5):
        assert_same(program.module()(*arguments(name, batch)), function(*arguments(name, batch)))


@pytest.mark.parametrize(
    "name", ["normalize_pose", "denormalize_pose", "roi_windows", "depth_crop", "pose_roi_pool max"]
)
def test_fx_traces_an_op_as_one_call(name: str) -> None:
    function, names = OPS[name]
    if len(names) == 1:
        traced = fx.symbolic_trace(lambda first: function(first))
    else:
        traced = fx.symbolic_trace(lambda first, second: function(first, second))
    targets = [node.target for node in traced.graph.nodes if node.op == "call_function"]
    assert [target for target in targets if target is not Camera] == [getattr(ops, name.split()[0])]
    assert_same(traced(*arguments(name, 3)), function(*arguments(name, 3)))


@pytest.mark.parametrize("name", OPS)
def test_the_default_dtype_and_device_of_torch_change_nothing(name: str) -> None:
    function, given = OPS[name][0], arguments(name, 2)
    expected = function(*given)
    ops.cascade._kept_grid_pose.cache_clear()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.device("meta"):
            actual = function(*given)
    finally:
        torch.set_default_dtype(torch.float32)
    assert_same(actual, expected)


@pytest.mark.parametrize("dtype", DEPTHS[:4])
def test_arrays_in_the_other_byte_order_and_read_only_arrays_are_read(dtype: torch.dtype) -> None:
    depth = rough_frames(4, (2, 60, 80), dtype).numpy()
    center = inputs(2)["center"].numpy()
    swapped = depth.astype(depth.dtype.newbyteorder())
    locked = depth.copy()
    locked.flags.writeable = False
    crop = ops.depth_crop(depth, center, CAMERA, size=24)
    middle, count = ops.hand_center(depth, near=1, far=2000)
    for other in (swapped, locked):
        before = other.copy()
        np.testing.assert_array_equal(ops.depth_crop(other, center, CAMERA, size=24), crop)
        np.testing.assert_array_equal(ops.hand_center(other, near=1, far=2000)[0], middle)
        np.testing.assert_array_equal(ops.hand_center(other, near=1, far=2000)[1], count)
        np.testing.assert_array_equal(other, before)


def test_read_only_poses_and_features_are_read() -> None:
    values = {name: tensor.numpy() for name, tensor in inputs(2).items()}
    expected = ops.pose_roi_pool(values["features"], values["pose"], (0, 3))
    for array in values.values():
        array.flags.writeable = False
    np.testing.assert_array_equal(ops.pose_roi_pool(values["features"], values["pose"], (0, 3)), expected)
