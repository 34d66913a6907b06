# SPDX-License-Identifier: MIT
"""One harness per op: random arguments, most of them valid; results are compared with the reference.

Invalid arguments must raise a TypeError or ValueError that names an argument; anything else is a finding.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from functools import cache
from random import Random
from typing import Any

import torch
from helpers.heads import narrow_config, random_head
from torch import Tensor

from poseren_ext import ops, reference
from poseren_ext.geometry.camera import Camera

Arguments = dict[str, Any]

SPECIAL = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-40, -1.0, 3e38, -3e38)
MODERATE = (math.nan, math.inf, -math.inf, 0.0, -0.0, 1e-6, -1.0, 1e9, -1e9)
"""For products and sums that would overflow in one order and not in another."""
EDGES = (math.nan, math.inf, -math.inf, 0.0, -0.0, -1.0, 1e9)
"""Of cubes: one of a nanometre is all rounding."""
NONSENSE: tuple[Any, ...] = (None, "no", math.nan, math.inf, -1, 0, 2**70, -(2**40), 1e300, True, [], (), 1j, object())
DEPTHS = (torch.float32, torch.uint16, torch.int32, torch.float16, torch.bfloat16)
OTHERS = (torch.bool, torch.int64, torch.float64, torch.complex64, torch.uint8, torch.int8)
FLOATS = (torch.float32, torch.float32, torch.float64, torch.bfloat16, torch.float16)


# --- tensors in every form ------------------------------------------------------------------------------------------


def layout(random: Random, tensor: Tensor) -> Tensor:
    """The same values in another memory layout; "expanded" repeats the first one along an axis."""
    kind = random.randrange(7)
    axes = list(range(tensor.dim()))
    if kind == 1 and axes:
        random.shuffle(axes)
        return tensor.permute(axes).contiguous().permute([axes.index(axis) for axis in range(len(axes))])
    if kind == 2:
        wide = torch.empty([3 * size + 2 for size in tensor.shape], dtype=tensor.dtype)
        return wide[tuple(slice(1, 1 + 3 * size, 3) for size in tensor.shape)].copy_(tensor)
    if kind == 3 and axes and tensor.shape[0] > 0:
        return tensor[:1].expand(tensor.shape)  # every sample is the same memory
    if kind == 4:  # an odd offset in a larger storage
        return torch.cat([tensor.new_zeros(3), tensor.flatten()])[3:].reshape(tensor.shape)
    if kind == 5 and tensor.dim() >= 2 and tensor.numel():  # rows that overlap
        strides = [random.choice([1, 2]) for _ in axes]
        room = 1 + sum(stride * (size - 1) for stride, size in zip(strides, tensor.shape, strict=True))
        return tensor.flatten()[:room].as_strided(tensor.shape, strides) if room <= tensor.numel() else tensor
    if kind == 6 and tensor.dtype in (torch.float32, torch.float64):  # negated only when it is read
        return torch.complex(tensor, -tensor).conj().imag
    return tensor


def numbers(
    random: Random,
    shape: tuple[int, ...],
    low: float,
    high: float,
    dtype: torch.dtype,
    special: tuple[float, ...] = SPECIAL,
) -> Tensor:
    """Uniform values, with special values if the type has them."""
    generator = torch.Generator().manual_seed(random.randrange(2**31))
    values = low + (high - low) * torch.rand(shape, generator=generator, dtype=torch.float64)
    if random.random() < 0.5 and values.numel():
        for _ in range(random.choice([1, 2, 8])):
            values.view(-1)[random.randrange(values.numel())] = random.choice(special)
    if not dtype.is_floating_point:
        values = values.nan_to_num(0).clamp(0 if dtype == torch.uint16 else -(2**31), 65535).round()
        return values.to(torch.int32).to(dtype)
    return values.to(dtype)


def frames(random: Random) -> Tensor:
    """Depth frames, sometimes without an axis or a pixel."""
    shape = (random.choice([0, 1, 2, 3]), random.choice([0, 1, 7, 30]), random.choice([1, 5, 33, 70]))
    depth = numbers(random, shape, 400, 900, random.choice(DEPTHS))
    return layout(random, depth)


def cameras(random: Random, batch: int) -> Any:
    row = torch.tensor([200.0, 180.0, 20.0, 15.0])
    each = layout(random, row * numbers(random, (batch, 4), 0.5, 1.5, torch.float32, MODERATE))
    return random.choice([Camera(200.0, 180.0, 20.0, 15.0), (200, 180.0, 20, 15), row, row.double(), each, each, each])


def cubes(random: Random, batch: int) -> Any:
    each = layout(random, numbers(random, (batch, 3), 30, 200, torch.float32, EDGES))
    return random.choice([150.0, 40, torch.tensor(80.0), each, each, each[:, 0]])


def spoil(random: Random, arguments: Arguments) -> Arguments:
    """Make one argument invalid: another type, rank, size, or value."""
    name = random.choice(sorted(arguments))
    value = arguments[name]
    if isinstance(value, Tensor) and random.random() < 0.8:
        wrong: list[Callable[[], Any]] = [
            lambda: value.to(random.choice(OTHERS)),
            lambda: value[..., None],
            lambda: value[:-1] if value.dim() and len(value) else value[None],
            lambda: value.flatten(),
            lambda: value[..., :1] if value.dim() else value,
            lambda: value.to("meta"),
            lambda: value.float().to_sparse() if value.numel() and value.dtype != torch.uint16 else value,
            lambda: torch.cat([value, value]) if value.dim() else value,
        ]
        arguments[name] = random.choice(wrong)()
    else:
        arguments[name] = random.choice(NONSENSE)
    return arguments


# --- the ops' arguments ---------------------------------------------------------------------------------------------


def hand_center(random: Random) -> Arguments:
    depth = frames(random)
    bounds = sorted(random.sample([-math.inf, 0.0, 1.0, 450.0, 600.0, 900.0, 65535.0, math.inf], 2))
    mask = layout(random, torch.rand(depth.shape, generator=torch.Generator().manual_seed(random.randrange(99))) < 0.7)
    return {
        "depth": depth,
        "near": bounds[0],
        "far": bounds[1],
        "mask": random.choice([None, mask]),
        "depth_unit": random.choice([1.0, 0.125, 0.3]),
        # Float sums differ in their last bit, and a pixel on a cube's face may follow it: refine exact sums only.
        "iterations": random.choice([0, 1, 3]) if not depth.is_floating_point() else 0,
        "cube": cubes(random, len(depth)),
        "camera": cameras(random, len(depth)),
    }


def depth_crop(random: Random) -> Arguments:
    depth = frames(random)
    B, H, W = depth.shape
    center = numbers(random, (B, 3), 0.0, 1.0, torch.float32) * torch.tensor([1.0 * W, 1.0 * H, 0.0])
    center = center + torch.tensor([0.0, 0.0, 650.0])
    turn = numbers(random, (B, 2, 3), -1.2, 1.2, torch.float32)
    return {
        "depth": depth,
        "center": layout(random, center.to(random.choice(FLOATS[:3]))),
        "camera": cameras(random, B),
        "cube": cubes(random, B),
        "size": random.choice([2, 5, 16, 33]),
        "transform": random.choice([None, layout(random, turn)]),
        "invalid": random.choice(["background", None, 700.0, 10000]),
        "interpolation": random.choice(["bilinear", "nearest"]),
        "depth_unit": random.choice([1.0, 0.125, 1.7]),
        "dtype": random.choice([torch.float32, torch.float32, torch.float16, torch.bfloat16]),
    }


def _joints(random: Random, low: float, high: float, batch: int, count: int) -> Tensor:
    return layout(random, numbers(random, (batch, count, 3), low, high, random.choice(FLOATS), MODERATE))


def normalize_pose(random: Random) -> Arguments:
    B = random.choice([0, 1, 3])
    center = numbers(random, (B, 3), 100.0, 700.0, random.choice(FLOATS), MODERATE)
    return {
        "uvd": _joints(random, 0.0, 700.0, B, random.choice([0, 1, 14])),
        "center": layout(random, center),
        "camera": cameras(random, B),
        "cube": cubes(random, B),
    }


def denormalize_pose(random: Random) -> Arguments:
    arguments = normalize_pose(random)
    pose = _joints(random, -1.5, 1.5, len(arguments["uvd"]), random.choice([0, 1, 14]))
    return {"pose": pose, **{name: value for name, value in arguments.items() if name != "uvd"}}


def _geometry(random: Random) -> Arguments:
    image = random.choice([96, 96, 64, 17, 2])
    roi = random.choice([48, 40, 1, 16])
    return {"image_size": image, "roi_size": min(roi, image - 1), "spatial_scale": random.choice([0.125, 0.25, 1.0])}


def roi_windows(random: Random) -> Arguments:
    count = random.choice([1, 3, 14])
    pose = _joints(random, -1.5, 1.5, random.choice([0, 1, 3]), count)
    return {"pose": pose, "joints": random.choices(range(count), k=random.choice([1, 2, 11])), **_geometry(random)}


def pose_roi_pool(random: Random) -> Arguments:
    windows = roi_windows(random)
    shape = (len(windows["pose"]), random.choice([0, 1, 4]), random.choice([1, 5, 12]), random.choice([1, 6, 12]))
    return {
        "features": layout(random, numbers(random, shape, -2.0, 2.0, random.choice(FLOATS), MODERATE)),
        **windows,
        "output_size": random.choice([1, 3, 7, 9]),
        "mode": random.choice(["max", "align"]),
        "sampling_ratio": random.choice([1, 2, 3]),
    }


@cache
def _head() -> Any:
    return random_head(narrow_config(widths=(12, 8), channels=4), step=0.02)


def cascade_refine(random: Random) -> Arguments:
    B = random.choice([0, 1, 2, 9])
    features = numbers(random, (B, 4, 12, 12), 0.0, 1.0, random.choice(FLOATS[:3])).clamp(-1e4, 1e4)
    pose = numbers(random, (B, 14, 3), -0.8, 0.8, random.choice(FLOATS[:3]))
    stages = random.choice([0, 1, 3, 5])
    return {"features": layout(random, features), "pose": layout(random, pose), "head": _head(), "stages": stages}


CASES: dict[str, Callable[[Random], Arguments]] = {
    function.__name__: function
    for function in (
        hand_center,
        depth_crop,
        normalize_pose,
        denormalize_pose,
        roi_windows,
        pose_roi_pool,
        cascade_refine,
    )
}


# --- comparing with the reference -----------------------------------------------------------------------------------


def run(name: str, random: Random) -> bool:
    """Call an op with random arguments; return whether it accepted them.

    Raises:
        AssertionError, or anything but a TypeError or ValueError: a finding.
    """
    arguments = CASES[name](random)
    spoiled = random.random() < 0.3
    if spoiled:
        arguments = spoil(random, arguments)
    try:
        result = getattr(ops, name)(**arguments)
    except (TypeError, ValueError) as error:
        refusal = str(error)
    else:
        refusal = ""
    if refusal:
        assert any(word in refusal for word in (*arguments, name)), f"a refusal that names nothing: {refusal}"
        assert spoiled, f"good arguments were refused: {refusal}"
        return False
    compare(name, arguments, result)
    return True


def compare(name: str, arguments: Arguments, result: Any) -> None:
    """Compare the results and gradients of an op with those of the reference.

    Raises:
        AssertionError: they differ.
    """
    if any(part.is_meta for part in _parts(result)):
        return  # shapes without values
    if name == "cascade_refine":
        _compare_stages(arguments, result)
    else:
        expected = getattr(reference, name)(**arguments)
        _compare(name, arguments, _parts(result), _parts(expected))
        _compare_gradients(name, arguments)


def _parts(result: Any) -> list[Tensor]:
    return [result] if isinstance(result, Tensor) else list(result)


def _tolerance(name: str, arguments: Arguments, dtype: torch.dtype) -> tuple[float, float]:
    """Relative and absolute tolerance: the order of sums, and one rounding to the type of the result."""
    if name == "hand_center":
        depth = arguments["depth"]
        largest = float(depth.double().nan_to_num(0, 0, 0).abs().max()) if depth.numel() else 0.0
        return 1e-6, largest * 1e-13
    if name == "depth_crop":
        return 0.0, {torch.float32: 3e-5, torch.float16: 1e-3, torch.bfloat16: 8e-3}[dtype]
    rounding = {torch.float32: 2e-5, torch.float64: 1e-10, torch.float16: 2e-3, torch.bfloat16: 2e-2}
    if dtype == torch.float64 and name == "pose_roi_pool" and arguments["pose"].dtype != torch.float64:
        dtype = torch.float32  # where the samples lie is
    relative = absolute = rounding.get(dtype, 0.0)
    if name == "denormalize_pose" and dtype == torch.float32:
        # An offset may cancel a far centre, and leaves its rounding.
        far = torch.as_tensor(arguments["center"]).double().nan_to_num(0, 0, 0).abs()
        absolute = max(absolute, float(far.max()) * 2.0**-23) if far.numel() else absolute
    return relative, absolute


def _compare(name: str, arguments: Arguments, actual: list[Tensor], expected: list[Tensor]) -> None:
    for one, other in zip(actual, expected, strict=True):
        assert one.shape == other.shape
        rtol, atol = _tolerance(name, arguments, one.dtype) if one.is_floating_point() else (0.0, 0.0)
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol, equal_nan=True)


def _compare_gradients(name: str, arguments: Arguments) -> None:
    """Compare gradients for moderate finite inputs, because those of overflowing sums are undefined.

    Gradients of pooling are sums of many terms that may cancel: the reference computes them in float64, and the
    tolerance is the rounding of all terms.
    """
    main = {"depth_crop": "depth", "pose_roi_pool": "features"}.get(name)
    if main is None:
        return
    value = arguments[main]
    if value.dtype not in (torch.float32, torch.float64) or not bool((value.abs() < 1e5).all()) or not value.numel():
        return
    gradients, bound = [], 1e-4
    for functions in (ops, reference):
        exactly = functions is reference and name == "pose_roi_pool"
        leaf = value.detach().to(torch.float64 if exactly else value.dtype, copy=True).requires_grad_()
        result = getattr(functions, name)(**{**arguments, main: leaf}).double()
        weights = torch.linspace(-1, 1, result.numel(), dtype=torch.float64).reshape(result.shape)
        total = (result * weights).nansum()
        gradient = torch.autograd.grad(total, leaf)[0] if total.requires_grad else torch.zeros_like(leaf)
        gradients.append(gradient.to(value.dtype))
        bound = max(bound, float(weights.abs().sum()) * 2.0**-23) if exactly else bound
    torch.testing.assert_close(gradients[0], gradients[1], rtol=1e-4, atol=bound, equal_nan=True)


def _compare_stages(arguments: Arguments, result: tuple[Tensor, Tensor]) -> None:
    """Compare each stage with the reference applied to the previous pose of the op."""
    poses, stages_run = result
    features, head = arguments["features"], arguments["head"]
    assert len(poses) == arguments["stages"] + 1
    torch.testing.assert_close(poses[0], arguments["pose"].float(), rtol=0, atol=0, equal_nan=True)
    bound = 1e-5 * max(1.0, float(features.double().nan_to_num(0, 0, 0).abs().max()) if features.numel() else 0.0)
    for before, after in itertools.pairwise(poses):
        expected, _ = reference.cascade_refine(features, before, head, stages=1)
        torch.testing.assert_close(after, expected[1].float(), rtol=1e-4, atol=bound, equal_nan=True)
    assert bool(((stages_run >= 0) & (stages_run <= arguments["stages"])).all())
