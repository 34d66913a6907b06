# SPDX-License-Identifier: MIT
"""Weight rounding: fully connected weights that int8, bfloat16 and float16 all represent exactly; their stored rows."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from poseren_ext.models.network import PoseREN, RegionEnsemble
from poseren_ext.ops.cascade import steps_of

_LAYERS = ("region", "finger", "pose")
_LARGEST = 7
"""Largest magnitude of a 4-bit number: -8 is not used."""
_FACTORS = 127 // _LARGEST
_CLIPPED = (1.0, 0.9, 0.8, 0.7)
"""Tried sizes of the largest 4-bit number of a group, as multiples of its largest weight."""


@torch.no_grad()
def round_to_bytes(model: PoseREN) -> None:
    """Rounds the fully connected weights of a model in place, so that packing does not change them.

    Every output row of weights becomes integers of magnitude at most 127 times a power of two, the step of that row.
    float16 and bfloat16 represent these numbers exactly, and so does int8 with the step: a model in any of these types
    is the same model. Round once, before the model is evaluated. Biases and convolutions are never packed and stay
    unchanged.

    The columns of the last layer are first scaled to equal size, and the layer before compensates. Otherwise a few
    large columns would make the steps of all other columns coarse.

    Args:
        model: a trained model; its weights are modified.
    """
    for head in (model.init.head, model.head):
        weights = (head.region_weight, head.finger_weight, head.pose_weight)
        if all(bool((rows == _rounded(rows)).all()) for weight in weights for rows in weight):
            continue  # already rounded; balancing would round it again
        _balance(head)
        for weight in weights:
            for rows in weight:  # one group at a time keeps the temporaries small
                rows.copy_(_rounded(rows))
    if model.error is not None:
        for parameter in model.error.parameters():  # its weights are stored as float16
            parameter.copy_(parameter.half())


@torch.no_grad()
def round_to_nibbles(model: PoseREN) -> None:
    """Rounds as :func:`round_to_bytes`, but the weights of the region layers, most of a model, to 4 bits; in place.

    In each row of these, the integers of one channel of the feature map become multiples (-7 to 7) of a whole factor.
    They stay integers of magnitude at most 127, which int8, bfloat16 and float16 represent. Weights of convolutions
    become float16 numbers.

    Args:
        model: a trained model; its weights are modified.
    """
    round_to_bytes(model)
    for head in (model.init.head, model.head):
        for rows in head.region_weight:
            if _nibbles(rows, head.config.channels) is None:  # those that are rounded stay as they are
                rows.copy_(_rounded_to_nibbles(rows, head.config.channels))
    for part in model.modules():
        if isinstance(part, nn.Conv2d):
            part.weight.copy_(part.weight.half())


def stored_rows(weight: Tensor, channels: int = 0) -> dict[str, Tensor] | None:
    """Rounded weights [..., R, K] as a file stores them, by the ends of the tensors' names; None for other weights.

    Args:
        weight: rows that :func:`round_to_bytes` or :func:`round_to_nibbles` rounded.
        channels: C, number of channels of the feature map, for 4-bit rows; 0 for int8 rows.

    Returns:
        "weight": int8 [..., R, K], or pairs of 4-bit numbers plus 8, the first one in the lower bits, uint8
        [..., R, (K + 1) // 2]; "scale": float32 [..., R], the step of each row; for 4-bit rows "factor": uint8
        [..., R, C]. A weight is the product of all.
    """
    lead = weight.shape[:-2]
    parts = []
    for rows in weight.reshape(-1, *weight.shape[-2:]):  # one group at a time keeps the temporaries small
        part = _nibbles(rows, channels) if channels else _numbers(rows)
        if part is None:
            return None
        parts.append(part)
    return {end: torch.stack([part[end] for part in parts]).view(*lead, *parts[0][end].shape) for end in parts[0]}


def stored_forms(shape: torch.Size, channels: int = 0) -> dict[str, tuple[list[int], torch.dtype]]:
    """Shapes and types of what :func:`stored_rows` returns for weights of this shape."""
    rows, inputs = list(shape[:-1]), shape[-1]
    scale = {"scale": (rows, torch.float32)}
    if not channels:
        return {"weight": ([*rows, inputs], torch.int8), **scale}
    return {
        "weight": ([*rows, (inputs + 1) // 2], torch.uint8),
        **scale,
        "factor": ([*rows, channels], torch.uint8),
    }


def restored_rows(parts: Mapping[str, Tensor], inputs: int) -> Tensor:
    """Float32 weights [..., R, K] of stored rows; `inputs` is K."""
    numbers = parts["weight"]
    if "factor" in parts:
        pairs = torch.stack([numbers & 15, numbers >> 4], -1).flatten(-2)[..., :inputs].float() - 8.0
        factor = parts["factor"].float()[..., None]
        numbers = (pairs.view(*factor.shape[:-1], -1) * factor).flatten(-2)
    return numbers.float() * parts["scale"][..., None]


def fully_connected_weights(model: PoseREN, bits: int) -> dict[str, int]:
    """Name of every fully connected weight in the state of the model -> channels of 4-bit rows, 0 for int8 rows.

    Args:
        model: the model.
        bits: 8, or 4 for the region layers.
    """
    heads = {name: part for name, part in model.named_modules() if isinstance(part, RegionEnsemble)}
    return {
        f"{name}.{layer}_weight": head.config.channels if bits == 4 and layer == "region" else 0
        for name, head in heads.items()
        for layer in _LAYERS
    }


def _rounded(rows: Tensor) -> Tensor:
    steps = steps_of(rows)
    return (rows / steps).round() * steps


def _numbers(rows: Tensor) -> dict[str, Tensor] | None:
    """int8 rows [R, K] and their steps; None if they are not rounded."""
    steps = steps_of(rows)
    numbers = rows / steps
    if not bool((numbers == numbers.round()).all()):  # NaN compares false
        return None
    return {"weight": numbers.to(torch.int8), "scale": steps[..., 0].float()}


def _nibbles(rows: Tensor, channels: int) -> dict[str, Tensor] | None:
    """4-bit rows [R, K], their steps and factors; None if they are not rounded."""
    found = _numbers(rows)
    if found is None:
        return None
    numbers = found["weight"].view(len(rows), channels, -1).short()
    largest = numbers.abs().amax(-1)
    factor = torch.zeros_like(largest)  # the smallest that fits
    for candidate in range(2 * _FACTORS, 0, -1):
        fits = (largest <= _LARGEST * candidate) & (numbers % candidate == 0).all(-1)
        factor[fits] = candidate
    if not bool((factor > 0).all()):
        return None
    small = (numbers // factor.clamp(min=1)[..., None]).flatten(1) + 8
    if small.shape[1] % 2:
        small = torch.cat([small, torch.full_like(small[:, :1], 8)], 1)
    small = small.to(torch.uint8)
    return {"weight": small[:, ::2] | small[:, 1::2] << 4, "scale": found["scale"], "factor": factor.to(torch.uint8)}


def _rounded_to_nibbles(rows: Tensor, channels: int) -> Tensor:
    steps = steps_of(rows)
    numbers = (rows / steps).view(len(rows), channels, -1)
    largest = numbers.abs().amax(-1, keepdim=True)
    best, least = torch.zeros_like(numbers), torch.full_like(largest, torch.inf)
    for size in _CLIPPED:
        factor = (size * largest / _LARGEST).round().clamp(1, _FACTORS)
        tried = (numbers / factor).round().clamp(-_LARGEST, _LARGEST) * factor
        error = (tried - numbers).square().sum(-1, keepdim=True)
        better = error < least
        best, least = torch.where(better, tried, best), torch.where(better, error, least)
    return best.flatten(1) * steps


def _balance(head: RegionEnsemble) -> None:
    """Moves powers of two from the columns of the last layer to the rows of the layer before (ReLU commutes)."""
    largest = head.pose_weight.abs().amax(0)
    size = torch.where(largest == 0, 1, _power_of_two(largest))
    head.pose_weight.div_(size)
    size = size.view_as(head.finger_bias)
    head.finger_weight.mul_(size[..., None])
    head.finger_bias.mul_(size)


def _power_of_two(values: Tensor) -> Tensor:
    """The largest power of two up to each value."""
    _, exponent = torch.frexp(values)
    return torch.ldexp(torch.ones_like(values), exponent - 1)
