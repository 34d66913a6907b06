# SPDX-License-Identifier: MIT
"""The estimator captured in a CUDA graph: errors, and on a GPU the same poses as without capture."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from helpers.small_models import small_model

from poseren_ext import CAMERAS, CapturedEstimator, Estimator, ops
from poseren_ext.models.packed import pack_backbone
from poseren_ext.synthetic import SyntheticHands

CAMERA = CAMERAS["sr305"]
RANGE = {"near": 300.0, "far": 1100.0}


@pytest.fixture
def gpu() -> None:
    if not torch.cuda.is_available():
        if os.environ.get("FAIL_WITHOUT_CUDA") == "1":
            pytest.fail("FAIL_WITHOUT_CUDA=1, but torch sees no CUDA device")
        pytest.skip("torch sees no CUDA device")


def frames(first: int, count: int) -> torch.Tensor:
    """uint16 [N, 480, 640], mm."""
    depth = SyntheticHands(5, "test").frames(torch.arange(first, first + count)).depth
    return depth.round().to(torch.int32).to(torch.uint16)


def test_on_the_cpu_it_says_what_to_do() -> None:
    with pytest.raises(ValueError, match=r"the model is on cpu; expected a GPU.*model\.cuda\(\)"):
        CapturedEstimator(Estimator("demo", camera=CAMERA), (480, 640), **RANGE)


def test_cuda_arguments_are_checked(gpu: None) -> None:
    def estimator(hand: str = "right") -> Estimator:
        return Estimator(small_model("msra21", spread=0.5).cuda(), camera=CAMERA, hand=hand)  # type: ignore[arg-type]

    with pytest.raises(ValueError, match="hand is 'auto'; expected 'left' or 'right'"):
        CapturedEstimator(estimator("auto"), (480, 640), **RANGE)
    with pytest.raises(ValueError, match="expected 0 < near < far"):
        CapturedEstimator(estimator(), (480, 640), near=500.0, far=400.0)
    with pytest.raises(ValueError, match=r"shape is \(480,\); expected \[B, H, W\]"):
        CapturedEstimator(estimator(), (480,), **RANGE)
    with pytest.raises(TypeError, match=r"dtype is torch\.uint8; expected one of"):
        CapturedEstimator(estimator(), (480, 640), torch.uint8, **RANGE)
    captured = CapturedEstimator(estimator(), (480, 640), **RANGE)
    with pytest.raises(ValueError, match=r"depth has shape \(1, 240, 320\).*expected \(1, 480, 640\)"):
        captured(np.zeros((240, 320), np.uint16))


@pytest.mark.parametrize("hand", ["right", "left"])
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_cuda_replays_give_the_uncaptured_poses(gpu: None, hand: str, batch: int) -> None:
    estimator = Estimator(small_model("msra21", spread=0.5).cuda(), camera=CAMERA, hand=hand)  # type: ignore[arg-type]
    captured = CapturedEstimator(estimator, (batch, 480, 640), iterations=2, **RANGE)
    for first in (0, batch, 2 * batch):
        depth = frames(first, batch)
        center, _ = ops.hand_center(depth.cuda(), iterations=2, camera=CAMERA, **RANGE)
        wanted = estimator(depth.cuda(), center=center)
        for given in (depth, depth.cuda(), depth.numpy()):
            got = captured(given)
            torch.testing.assert_close(got.center, wanted.center, rtol=0, atol=0)
            torch.testing.assert_close(got.joints, wanted.joints, rtol=0, atol=2e-3)  # mm
            assert torch.equal(got.stages_run, wanted.stages_run)


def test_cuda_an_empty_frame_is_nan_and_its_neighbours_are_not(gpu: None) -> None:
    depth = frames(0, 3)
    depth[1] = 0
    pose = CapturedEstimator(
        Estimator(small_model("msra21", spread=0.5).cuda(), camera=CAMERA), (3, 480, 640), **RANGE
    )(depth)
    assert torch.isnan(pose.joints).all(-1).all(-1).tolist() == [False, True, False]


def test_cuda_fused_convolutions_are_the_backbones(gpu: None) -> None:
    backbone = small_model("msra21", spread=0.5).backbone.cuda()
    packed = pack_backbone(backbone, 96)
    assert packed is not backbone, "cuDNN's fused convolutions did not run"
    crop = torch.rand(2, 1, 96, 96, device="cuda") * 2 - 1
    wanted = backbone(crop).detach()
    torch.testing.assert_close(packed(crop), wanted, rtol=0, atol=5e-3 * float(wanted.abs().max()))  # tf32
