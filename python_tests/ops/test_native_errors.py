# SPDX-License-Identifier: MIT
"""Errors of the native code reach Python with their text, and results are ordinary tensors."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from poseren_ext import ops
from poseren_ext.ops import _native

POOL = ([0, 1], 7, 96, 48, 0.125, False, 2)
TERABYTES = 2**42


def pool(features: Tensor, pose: Tensor, **changes: int) -> Tensor:
    joints, output_size, image_size, roi_size, scale, align, sampling_ratio = POOL
    output_size, sampling_ratio = changes.get("output_size", output_size), changes.get("sampling_ratio", sampling_ratio)
    return _native.ops.pose_roi_pool(
        features, pose, joints, output_size, image_size, roi_size, scale, align, sampling_ratio
    )


@pytest.mark.parametrize(
    "call",
    [
        "ops.pose_roi_pool(torch.randn(64, 64, 12, 12), torch.zeros(64, 21, 3), (0, 1))",
        "ops.hand_center(torch.full((64, 240, 320), 500.0), near=1, far=900)",
        "ops.depth_crop(torch.full((64, 24, 32), 500.0), torch.tensor([[9.0, 9, 500]]).expand(64, 3), (9.0, 9, 9, 9))",
    ],
)
def test_an_exception_in_a_parallel_body_keeps_its_text(call: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", f"import torch\nfrom poseren_ext import ops\ntorch.set_num_threads(4)\n{call}"],
        env={**os.environ, "POSEREN_ISA": "sse9"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "RuntimeError: poseren: POSEREN_ISA is 'sse9'; this machine has baseline" in done.stderr


@pytest.mark.parametrize("channels", [2**31, 143540452106, 2**40])
def test_a_result_whose_size_overflows_is_an_error(device: str, channels: int) -> None:
    features = torch.zeros(1, 1, 1, 1, device=device).expand(1, channels, 1, 1)
    with pytest.raises(RuntimeError, match=r"pose_roi_pool: the size of a tensor of shape .* does not fit in 64 bits"):
        pool(features, torch.zeros(1, 21, 3, device=device), output_size=2**16 - 1)


def test_sampling_points_that_overflow_are_an_error(device: str) -> None:
    features, pose = torch.zeros(1, 1, 12, 12, device=device), torch.zeros(1, 21, 3, device=device)
    with pytest.raises(RuntimeError, match=r"output_size \* sampling_ratio must be below 2\^31"):
        pool(features, pose, sampling_ratio=2**40)


def test_a_depth_gradient_whose_size_overflows_is_an_error(device: str) -> None:
    depth = torch.zeros(1, 1, 1, device=device).expand(1, 2**31 - 2, 2**31 - 2)
    grad = torch.zeros(1, 1, 2, 2, device=device)
    numbers = [torch.ones(1, columns, device=device) for columns in (3, 4, 3)]
    with pytest.raises(RuntimeError, match=r"depth_crop_backward: the size of a tensor .* does not fit in 64 bits"):
        _native.ops.depth_crop_backward(grad, depth, *numbers, None, 1, 0.0, False, 1.0)


@pytest.mark.parametrize("op", ["pose_roi_pool", "depth_crop"])
def test_out_of_memory_says_how_much_was_asked_for(device: str, op: str) -> None:
    """With torch's exception type on a CPU, RuntimeError, which torch.OutOfMemoryError is derived from as well."""

    def call() -> Tensor:
        if op == "pose_roi_pool":
            features = torch.zeros(1, 1, 1, 1, device=device).expand(1, TERABYTES // (2 * 49 * 4), 1, 1)
            return pool(features, torch.zeros(1, 2, 3, device=device))
        rows = [torch.ones(1, columns, device=device) for columns in (3, 4, 3)]
        depth = torch.zeros(1, 4, 4, device=device)
        return _native.ops.depth_crop(depth, *rows, None, 2**20, 1, 0.0, False, 1.0, torch.float32)

    with pytest.raises(RuntimeError, match=rf"{op}: out of memory: tried to allocate \d{{13,}} bytes \(\d+ MiB\)"):
        call()


def test_a_large_result_can_be_resized_and_freed_like_any_tensor() -> None:
    regions = ops.pose_roi_pool(torch.randn(128, 64, 12, 12), torch.zeros(128, 21, 3), range(11))
    assert regions.untyped_storage().resizable()
    regions.resize_(200, 11, 64, 7, 7)
    regions.untyped_storage().resize_(0)
    assert regions.untyped_storage().nbytes() == 0


def test_results_are_inference_tensors_in_inference_mode_only() -> None:
    features, pose = torch.randn(32, 64, 12, 12), torch.zeros(32, 21, 3)
    with torch.inference_mode():
        assert ops.pose_roi_pool(features, pose, range(11)).is_inference()
    assert not ops.pose_roi_pool(features, pose, range(11)).is_inference()


@pytest.mark.parametrize(
    ("device", "error"), [("GPU", torch.OutOfMemoryError), ("CPU", RuntimeError)], ids=["on the GPU", "on the CPU"]
)
def test_out_of_memory_has_the_type_that_torch_raises_on_that_device(
    monkeypatch: pytest.MonkeyPatch, device: str, error: type[Exception]
) -> None:
    def full(*args: object) -> None:
        raise RuntimeError(f"poseren::op: out of memory: tried to allocate 64 bytes (0 MiB) on the {device}")

    names = ("hand_center", "depth_crop", "roi_windows", "pose_roi_pool")
    monkeypatch.setattr(_native, "ops", SimpleNamespace(**dict.fromkeys(names, full)))
    depth, features, pose = torch.full((1, 24, 32), 500.0), torch.zeros(1, 2, 12, 12), torch.zeros(1, 21, 3)
    calls = (
        lambda: ops.hand_center(depth, near=1, far=900),
        lambda: ops.depth_crop(depth, torch.tensor([[9.0, 9, 500]]), (9.0, 9, 9, 9)),
        lambda: ops.roi_windows(pose, range(3)),
        lambda: ops.pose_roi_pool(features, pose, range(3)),
    )
    for call in calls:
        with pytest.raises(error, match="tried to allocate 64 bytes") as raised:
            call()
        assert type(raised.value) is error
