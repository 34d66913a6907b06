# SPDX-License-Identifier: MIT
"""Derivatives by torch.func, by forward mode and in compiled functions: right, or refused by name."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, func

from poseren_ext import Camera, ops

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
