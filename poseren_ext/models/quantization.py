# SPDX-License-Identifier: MIT
"""Weight rounding: fully connected weights that int8, bfloat16 and float16 all represent exactly."""

from __future__ import annotations

import torch
from torch import Tensor

from poseren_ext.models.network import PoseREN, RegionEnsemble
from poseren_ext.ops.cascade import steps_of

_LAYERS = ("region", "finger", "pose")


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


def byte_rows(weight: Tensor) -> tuple[Tensor, Tensor] | None:
    """Rounded weights as int8 [..., R, K] and the float32 step [..., R] of each row; None if they are not rounded."""
    stored, steps = torch.empty_like(weight, dtype=torch.int8), torch.empty(weight.shape[:-1], dtype=torch.float32)
    groups = zip(weight, stored, steps, strict=True) if weight.dim() > 2 else [(weight, stored, steps)]
    for rows, whole, step in groups:  # one group at a time keeps the temporaries small
        step.copy_(steps_of(rows)[..., 0])
        numbers = rows / step[..., None]
        if not bool((numbers == numbers.round()).all()):  # NaN compares false
            return None
        whole.copy_(numbers)
    return stored, steps


def fully_connected_weights(model: PoseREN) -> dict[str, str]:
    """Name of every fully connected weight in the state of the model -> name of its stored steps."""
    heads = [name for name, part in model.named_modules() if isinstance(part, RegionEnsemble)]
    return {f"{head}.{layer}_weight": f"{head}.{layer}_scale" for head in heads for layer in _LAYERS}


def _rounded(rows: Tensor) -> Tensor:
    steps = steps_of(rows)
    return (rows / steps).round() * steps


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
