# SPDX-License-Identifier: MIT
"""Packed heads: the cascade with bfloat16 and int8 weights, with each instruction set of this machine."""

from __future__ import annotations

import math
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from helpers.heads import alone, narrow_config, random_head, rounds_inputs, scene
from helpers.op_contract import assert_same_bits

from benchmarks.subjects.refine import widened
from poseren_ext import ops, reference
from poseren_ext.models import RegionEnsemble
from poseren_ext.ops.cascade import WeightType

TYPES: tuple[WeightType, ...] = ("float32", "bfloat16", "int8")


def unpacked(packed: ops.PackedHead) -> RegionEnsemble:
    """A float32 head with exactly the packed weights."""
    head = random_head(narrow_config())
    for layer in ("region", "finger", "pose"):
        weight, scale = getattr(packed, f"{layer}_weight").float(), getattr(packed, f"{layer}_scale")
        getattr(head, f"{layer}_weight").copy_(weight if scale is None else weight * scale[..., None])
        getattr(head, f"{layer}_bias").copy_(getattr(packed, f"{layer}_bias"))
    return head


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("batch", [1, 5, 40])
def test_is_the_plain_loop_with_the_rounded_weights(device: str, dtype: WeightType, batch: int) -> None:
    packed = ops.pack_head(random_head(), dtype)
    features, pose = scene(batch, narrow_config())
    expected, expected_run = reference.cascade_refine(features, pose, unpacked(packed), stages=4)
    poses, stages_run = ops.cascade_refine(features.to(device), pose.to(device), packed.to(device), stages=4)
    torch.testing.assert_close(poses.cpu(), expected, rtol=0, atol=5e-5 if rounds_inputs(dtype, device) else 1e-5)
    assert torch.equal(stages_run.cpu(), expected_run)


@pytest.mark.parametrize("dtype", TYPES)
def test_a_sample_has_the_same_bits_in_any_batch(device: str, dtype: WeightType) -> None:
    packed = ops.pack_head(random_head(narrow_config(widths=(40, 33))), dtype).to(device)
    features, pose = (part.to(device) for part in scene(23, narrow_config()))
    together, _ = ops.cascade_refine(features, pose, packed, stages=4)
    assert_same_bits([together[:, 22]], [alone(features[22], pose[22], packed, 4, like=23)])


@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_features_spoil_their_sample_alone(device: str, dtype: WeightType, bad: float) -> None:
    packed = ops.pack_head(random_head(), dtype).to(device)
    features, pose = (part.to(device) for part in scene(4, narrow_config()))
    clean, _ = ops.cascade_refine(features, pose, packed)
    features[1] = bad
    poses, _ = ops.cascade_refine(features, pose, packed)
    assert poses[1:, 1].isnan().all()
    assert_same_bits([poses[:, [0, 2, 3]]], [clean[:, [0, 2, 3]]])


@pytest.mark.parametrize("channels", [1337, 1400])
def test_the_largest_sums(channels: int) -> None:
    """Of 65513 inputs, which just fit 32 bits as bytes, and of 68600: all at their largest, as the weights."""
    head = random_head(narrow_config(widths=(2, 2), channels=channels), step=0.1)
    head.region_weight.fill_(1e-4)
    head.region_weight[:, 1] = -1e-4
    pose = torch.zeros(1, 14, 3)
    packed = ops.pack_head(head, "int8")
    for value in (1.0, -1.0):
        features = torch.full((1, channels, 12, 12), value)
        expected, _ = reference.cascade_refine(features, pose, widened(packed), stages=1)
        poses, _ = ops.cascade_refine(features, pose, packed, stages=1)
        torch.testing.assert_close(poses, expected, rtol=1e-3, atol=1e-4)


def test_int8_rows_are_rounded_to_255_steps_of_their_own() -> None:
    head = random_head()
    packed = ops.pack_head(head, "int8")
    assert packed.region_scale is not None
    scale = head.region_weight.abs().amax(-1) / 127
    torch.testing.assert_close(packed.region_scale, scale, rtol=1e-6, atol=0)
    error = (packed.region_weight * packed.region_scale[..., None] - head.region_weight).abs()
    assert (error <= packed.region_scale[..., None] * 0.5001).all()
    assert packed.region_weight.abs().amax(-1).eq(127).all()


def test_a_row_of_zeros_stays_zero() -> None:
    head = random_head()
    head.finger_weight[1, 2] = 0
    packed = ops.pack_head(head, "int8")
    assert packed.finger_weight[1, 2].eq(0).all()
    poses, _ = ops.cascade_refine(*scene(2, head.config), packed)
    assert poses.isfinite().all()


def test_packing_shrinks_weights_and_float32_shares_them() -> None:
    head = random_head()
    sizes = {dtype: ops.pack_head(head, dtype).nbytes for dtype in TYPES}
    weights = sum(parameter.nbytes for name, parameter in head.named_parameters() if name.endswith("weight"))
    biases = sum(parameter.nbytes for name, parameter in head.named_parameters() if name.endswith("bias"))
    assert sizes == {
        "float32": weights + biases,
        "bfloat16": weights // 2 + biases,
        "int8": weights // 4 + 2 * biases,  # a scale beside each bias
    }
    assert ops.pack_head(head, "float32").region_weight.data_ptr() == head.region_weight.data_ptr()


def test_a_bfloat16_head_runs_as_it_is() -> None:
    head = random_head()
    for bias in (head.region_bias, head.finger_bias, head.pose_bias):
        bias.copy_(bias.bfloat16())
    features, pose = scene(3, head.config)
    expected, _ = ops.cascade_refine(features, pose, ops.pack_head(head, "bfloat16"))
    poses, _ = ops.cascade_refine(features, pose, head.bfloat16())
    assert_same_bits([poses], [expected])


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_refuses_to_pack_what_has_no_steps(bad: float) -> None:
    head = random_head()
    head.finger_weight[0, 0, 0] = bad
    with pytest.raises(ValueError, match=r"finger_weight holds NaN or infinite weights"):
        ops.pack_head(head, "int8")


def test_refuses_other_types() -> None:
    with pytest.raises(ValueError, match=r"dtype is 'int4'; expected one of 'float32', 'bfloat16', 'int8'"):
        ops.pack_head(random_head(), "int4")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"head is a Linear without config"):
        ops.pack_head(torch.nn.Linear(2, 2), "int8")  # type: ignore[arg-type]


CHECK = """
import torch
from helpers.heads import narrow_config, random_head, scene
from poseren_ext import ops, reference
head = random_head(narrow_config(widths=(37, 21), channels=3))
for batch in (1, 4, 19):
    features, pose = scene(batch, head.config)
    expected, _ = reference.cascade_refine(features, pose, head)
    for dtype, bound in (("float32", 1e-5), ("bfloat16", 5e-2), ("int8", 2e-1)):
        poses, _ = ops.cascade_refine(features, pose, ops.pack_head(head, dtype), stages=3)
        torch.testing.assert_close(poses[:2], expected[:2], rtol=0, atol=bound)
deep = random_head(narrow_config(widths=(6, 5), channels=45))  # 2205 inputs: three parts, the last not a register's
features, pose = scene(19, deep.config)
for dtype in ("float32", "bfloat16", "int8"):
    packed = ops.pack_head(deep, dtype)
    poses, _ = ops.cascade_refine(features, pose, packed, stages=3)
    for sample in (0, 18):
        alone, _ = ops.cascade_refine(features[sample], pose[sample], packed, stages=3)
        assert torch.equal(poses[:, sample], alone), (dtype, sample)
    expected, _ = reference.cascade_refine(features, pose, deep, stages=1)
    bound = {"float32": 1e-5, "bfloat16": 5e-2, "int8": 2e-1}[dtype]
    torch.testing.assert_close(poses[:2], expected, rtol=0, atol=bound)
features = torch.randn(3, 5, 12, 12)
pose = torch.rand(3, 14, 3) - 0.5
assert torch.equal(ops.pose_roi_pool(features, pose, (0, 1)), reference.pose_roi_pool(features, pose, (0, 1)))
"""


@pytest.mark.parametrize("isa", ["baseline", "avx2", "avx512", "avx512vnni"])
def test_every_instruction_set_gives_the_same(isa: str) -> None:
    environment = {**os.environ, "POSEREN_ISA": isa, "PYTHONPATH": str(Path(__file__).parents[1])}
    result = subprocess.run([sys.executable, "-c", CHECK], env=environment, capture_output=True, text=True, check=False)
    if f"POSEREN_ISA is '{isa}'; this machine has" in result.stderr:
        pytest.skip(f"this machine has no {isa}")
    assert result.returncode == 0, result.stderr
