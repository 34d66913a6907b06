# SPDX-License-Identifier: MIT
"""Derivatives by torch.func, by forward mode and in compiled functions: right, or refused by name."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, func
from torch._dynamo.utils import counters
from torch.autograd import forward_ad

from poseren_ext import Camera, ops
from poseren_ext.ops import _native

POSE = torch.linspace(-0.5, 0.5, 2 * 5 * 3).reshape(2, 5, 3)
CENTER = torch.tensor([[40.0, 30.0, 500.0]] * 2)
CAMERA = Camera(80.0, 80.0, 40.0, 30.0)


@pytest.mark.parametrize("mode", ["max", "align"])
def test_forward_and_reverse_mode_agree(mode: str) -> None:
    features = torch.randn(4, 12, 12)
    function = lambda x: ops.pose_roi_pool(x, POSE[0], (0, 1), mode=mode).sum((1, 2, 3))  # type: ignore[arg-type]  # noqa: E731
    torch.testing.assert_close(func.jacfwd(function)(features), func.jacrev(function)(features))


def test_per_sample_gradients_are_those_of_a_loop() -> None:
    features = torch.randn(2, 4, 12, 12)

    def loss(x: Tensor, pose: Tensor) -> Tensor:
        return ops.pose_roi_pool(x, pose, (0, 1)).square().sum()

    expected = torch.stack([func.grad(loss)(x, pose) for x, pose in zip(features, POSE, strict=True)])
    torch.testing.assert_close(func.vmap(func.grad(loss))(features, POSE), expected)


def test_a_derivative_that_does_not_exist_is_refused_by_name() -> None:
    depth = torch.rand(2, 60, 80) * 200 + 400
    with pytest.raises(RuntimeError, match="not in center"):
        func.grad(lambda c: ops.depth_crop(depth, c, CAMERA).sum())(CENTER)
    with pytest.raises(RuntimeError, match="hand_center has no derivative"):
        func.jvp(lambda z: ops.hand_center(z, near=1, far=900)[0], (depth,), (depth,))


FEATURES = torch.linspace(-1, 1, 2 * 4 * 12 * 12).sin().reshape(2, 4, 12, 12)
DEPTH = 500 + 90 * torch.linspace(0, 40, 2 * 60 * 80).sin().reshape(2, 60, 80)
ROWS = torch.tensor([[80.0, 80.0, 40.0, 30.0]] * 2), torch.full((2, 3), 150.0)
POOL = ((0, 1), 7, 96, 48, 0.125)
PUBLIC: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "max": (lambda x: ops.pose_roi_pool(x, POSE, (0, 1)), FEATURES),
    "align": (lambda x: ops.pose_roi_pool(x, POSE, (0, 1), mode="align"), FEATURES),
    "align, pose": (lambda p: ops.pose_roi_pool(FEATURES, p, (0, 1), mode="align"), POSE),
    "crop": (lambda z: ops.depth_crop(z, CENTER, CAMERA, size=8), DEPTH),
}
RAW: dict[str, Callable[[Tensor], Tensor]] = {
    "max": lambda x: _native.ops.pose_roi_pool(x, POSE, *POOL, False, 2),
    "align": lambda x: _native.ops.pose_roi_pool(x, POSE, *POOL, True, 2),
    "align, pose": lambda p: _native.ops.pose_roi_pool(FEATURES, p, *POOL, True, 2),
    "crop": lambda z: _native.ops.depth_crop(z, CENTER, *ROWS, None, 8, 1, 0.0, False, 1.0, torch.float32),
}
SECOND: dict[str, tuple[Callable[[Tensor], Tensor], Tensor]] = {
    "feature_grad": (
        lambda g: _native.ops.pose_roi_pool_feature_grad(g, FEATURES, POSE, *POOL, False, 2),
        torch.ones(2, 2, 4, 7, 7),
    ),
    "pose_grad": (
        lambda g: _native.ops.pose_roi_pool_pose_grad(g, FEATURES, POSE, *POOL, 2),
        torch.ones(2, 2, 4, 7, 7),
    ),
    "crop_backward": (
        lambda g: _native.ops.depth_crop_backward(g, DEPTH, CENTER, *ROWS, None, 1, 0.0, False, 1.0),
        torch.ones(2, 1, 8, 8),
    ),
    "hand_center": (lambda z: _native.ops.hand_center(z, None, None, None, 1.0, 900.0, 1.0, 0)[0], DEPTH),
    "crop, center": (
        lambda c: _native.ops.depth_crop(DEPTH, c, *ROWS, None, 8, 1, 0.0, False, 1.0, torch.float32),
        CENTER,
    ),
}


def _transforms(f: Callable[[Tensor], Tensor]) -> dict[str, Callable[[Tensor], Tensor]]:
    gradient = func.grad(lambda x: f(x).square().sum())
    return {
        "grad": gradient,
        "vjp": lambda x: func.vjp(f, x)[1](torch.ones_like(f(x)))[0],
        "jacrev": func.jacrev(lambda x: f(x).flatten(1).sum(1)),
        "vmap": lambda x: func.vmap(f)(torch.stack([x, 2 * x])),
        "vmap of grad": lambda x: func.vmap(gradient)(torch.stack([x, 2 * x])),
    }


@pytest.mark.parametrize("name", RAW)
def test_operators_transform_as_the_functions_do(name: str) -> None:
    function, x = PUBLIC[name]
    raw = _transforms(RAW[name])
    for transform, call in _transforms(function).items():
        expected = call(x)
        assert expected.abs().max() > 0, transform
        torch.testing.assert_close(raw[transform](x), expected, rtol=0, atol=0, msg=transform)


@pytest.mark.parametrize("name", ["align, pose", "crop"])
def test_reverse_transforms_compile_and_forward_mode_is_refused_there(name: str) -> None:
    function, x = PUBLIC[name]
    calls = _transforms(function)
    torch._dynamo.reset()
    together = torch.compile(lambda x: [call(x) for call in calls.values()], backend="aot_eager", fullgraph=True)
    for result, transform in zip(together(x), calls, strict=True):
        torch.testing.assert_close(result, calls[transform](x), rtol=0, atol=0, msg=transform)
    push = torch.compile(lambda x: func.jvp(function, (x,), (x,))[1], backend="aot_eager", fullgraph=True)
    with pytest.raises(Exception, match="no forward-mode derivative within"):
        push(x)


@pytest.mark.parametrize("name", [*RAW, *SECOND])
def test_operators_refuse_forward_mode(name: str) -> None:
    function, x = SECOND[name] if name in SECOND else (RAW[name], PUBLIC[name][1])
    for call in (lambda: func.jvp(function, (x,), (x,)), lambda: func.jacfwd(function)(x)):
        with pytest.raises(RuntimeError, match="no forward-mode derivative"):
            call()
    with forward_ad.dual_level(), pytest.raises(RuntimeError, match="no forward-mode derivative"):
        function(forward_ad.make_dual(x, x))


@pytest.mark.parametrize("name", SECOND)
def test_operators_refuse_derivatives_that_do_not_exist(name: str) -> None:
    function, x = SECOND[name]
    for transform, call in _transforms(function).items():
        if transform != "vmap":
            with pytest.raises(RuntimeError, match=r"derivative|not in center"):
                call(x)
    with pytest.raises(RuntimeError, match=r"derivative|not in center"):
        function(x.clone().requires_grad_()).sum().backward()


@pytest.mark.parametrize(
    ("call", "values", "graphs"),
    [
        (lambda v: ops.depth_crop(DEPTH, CENTER, CAMERA, size=8, depth_unit=v), (1.0, 1.5, 0.5), 3),
        (
            lambda v: ops.depth_crop(DEPTH, CENTER, CAMERA, size=8, cube=v),
            tuple(map(torch.tensor, (150.0, 140.0, 9.0))),
            1,
        ),
        (lambda v: ops.depth_crop(DEPTH, CENTER, CAMERA, size=v), (8, 9, 12), 2),
    ],
    ids=["a number", "a tensor", "an integer"],
)
def test_graphs_for_values_that_change(call: Callable[..., Tensor], values: tuple[float, ...], graphs: int) -> None:
    torch._dynamo.reset()
    counters.clear()
    compiled = torch.compile(call, backend="aot_eager", fullgraph=True)
    for value in values:
        torch.testing.assert_close(compiled(value), call(value), rtol=0, atol=0)
    assert counters["stats"]["unique_graphs"] == graphs
