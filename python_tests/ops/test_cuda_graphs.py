# SPDX-License-Identifier: MIT
"""On a GPU: ops captured in a CUDA graph and replayed on other data give the eager bits; devices, streams."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest
import torch
from helpers.depth_cases import CAMERA, CUBE, rough_frames
from helpers.heads import NYU, narrow_config, random_head, scene
from helpers.op_contract import assert_same_bits, outputs
from torch import Tensor

from poseren_ext import ops
from poseren_ext.ops import _native

Call = Callable[[list[Tensor]], list[Tensor]]


@pytest.fixture(autouse=True)
def _needs_a_gpu() -> None:
    if not torch.cuda.is_available():
        if os.environ.get("FAIL_WITHOUT_CUDA") == "1":
            pytest.fail("FAIL_WITHOUT_CUDA=1, but torch sees no CUDA device")
        pytest.skip("torch sees no CUDA device")


def frames(seed: int, batch: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    center = torch.tensor([20.0, 15.0, 800.0]) + torch.rand(batch, 3, generator=generator)
    return [rough_frames(seed, (batch, 32, 40), torch.uint16).cuda(), center.cuda()]


def features(seed: int, batch: int) -> list[Tensor]:
    return [part.cuda() for part in scene(batch, narrow_config(), seed)]


def center(inputs: list[Tensor]) -> list[Tensor]:
    return list(ops.hand_center(inputs[0], near=700, far=1000, iterations=2, cube=CUBE, camera=CAMERA))


def crop(inputs: list[Tensor]) -> list[Tensor]:
    return [ops.depth_crop(*inputs, CAMERA, cube=CUBE, size=33)]


def pool(inputs: list[Tensor]) -> list[Tensor]:
    return [ops.roi_windows(inputs[1], NYU.guided), ops.pose_roi_pool(*inputs, NYU.guided)]


def pool_and_backward(inputs: list[Tensor]) -> list[Tensor]:
    leaves = [tensor.detach().requires_grad_() for tensor in inputs]
    pooled = ops.pose_roi_pool(*leaves, NYU.guided, mode="align")
    return [pooled.detach(), *torch.autograd.grad(pooled.sum(), leaves)]


def refine() -> Call:
    head = random_head(step=0.02).cuda()
    return lambda inputs: list(ops.cascade_refine(*inputs, head, stages=4))


CASES: dict[str, tuple[Callable[[int, int], list[Tensor]], Callable[[], Call], int]] = {
    "hand_center": (frames, lambda: center, 3),
    "depth_crop": (frames, lambda: crop, 3),
    "pose_roi_pool": (features, lambda: pool, 3),
    "pose_roi_pool backward": (features, lambda: pool_and_backward, 3),
    "cascade_refine of 1": (features, refine, 1),
    "cascade_refine of 40": (features, refine, 40),
}


@pytest.mark.parametrize("case", CASES)
def test_capture_and_replay_give_the_eager_bits(case: str) -> None:
    make, make_call, batch = CASES[case]
    call, static = make_call(), make(0, batch)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        call(static)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call(static)
    for seed in (0, 1, 2):
        inputs = make(seed, batch)
        for target, value in zip(static, inputs, strict=True):
            target.copy_(value)
        graph.replay()
        assert_same_bits(results, call(inputs))


@pytest.mark.parametrize("case", CASES)
def test_runs_on_the_current_stream(case: str) -> None:
    make, make_call, batch = CASES[case]
    call, inputs = make_call(), make(3, batch)
    expected = call(inputs)
    stream = torch.cuda.Stream()
    late = [torch.zeros_like(tensor) for tensor in inputs]
    torch.cuda.synchronize()
    with torch.cuda.stream(stream):
        torch.cuda._sleep(20_000_000)  # about 10 ms: a kernel on another stream would read zeros
        for target, value in zip(late, inputs, strict=True):
            target.copy_(value)
        results = call(late)
    stream.synchronize()
    assert_same_bits(results, expected)


@pytest.mark.parametrize("case", CASES)
def test_runs_on_the_tensors_device(case: str) -> None:
    if torch.cuda.device_count() < 2:
        pytest.skip("one CUDA device: the second was not tried")
    make, make_call, batch = CASES[case]
    inputs = make(4, batch)
    if case.startswith("cascade"):
        head = random_head(step=0.02).to("cuda:1")
        moved = outputs(ops.cascade_refine(*[tensor.to("cuda:1") for tensor in inputs], head, stages=4))
    else:
        moved = make_call()([tensor.to("cuda:1") for tensor in inputs])
    assert {str(result.device) for result in moved} == {"cuda:1"}
    assert_same_bits([result.to("cuda:0") for result in moved], make_call()(inputs))


def test_the_native_ops_refuse_a_cpu_tensor_among_cuda_ones() -> None:
    maps, pose = features(0, 2)
    grad = torch.zeros(2, 1, 4, 7, 7)
    numbers = [0], 7, 96, 48, 0.125
    depth, place = frames(0, 2)
    four, three = torch.ones(2, 4), torch.ones(2, 3)
    with pytest.raises(RuntimeError, match="poseren::pose_roi_pool: features and pose must be on one device"):
        _native.ops.pose_roi_pool(maps, pose.cpu(), *numbers, False, 2)
    with pytest.raises(RuntimeError, match="pose_roi_pool_feature_grad: grad must be on the device of features"):
        _native.ops.pose_roi_pool_feature_grad(grad, maps, pose, *numbers, False, 2)
    with pytest.raises(RuntimeError, match="poseren::depth_crop: camera must be on the device of depth"):
        _native.ops.depth_crop(depth, place, four, three.cuda(), None, 8, 0, 0.0, False, 1.0, torch.float32)
    torch.cuda.synchronize()  # no error came behind
