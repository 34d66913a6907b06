# SPDX-License-Identifier: MIT
"""Weights that every type holds: on steps that int8 and bfloat16 know too."""

from __future__ import annotations

import torch
from torch import Tensor

from poseren_ext.models.network import PoseREN, RegionEnsemble
from poseren_ext.ops.cascade import steps_of


@torch.no_grad()
def round_to_bytes(model: PoseREN) -> None:
    """Rounds a model's fully connected weights, in place, so that packing them changes nothing.

    The weights of each output row become whole numbers, at most 127, of a power of two of its own. Such numbers are
    exact in float16, bfloat16 and (with the step beside them) int8: a model in any of these types is the same model.
    The rounding itself is done once, before the model is measured; biases and convolutions, which are never packed,
    keep their values.

    The last layer's columns are first brought to one size, which the layer before makes up for: otherwise a few large
    ones would make the steps of all others coarse.

    Args:
        model: trained; its weights are changed.
    """
    for head in (model.init.head, model.head):
        weights = (head.region_weight, head.finger_weight, head.pose_weight)
        if all(bool((rows == _rounded(rows)).all()) for weight in weights for rows in weight):
            continue  # balanced again, they would be rounded again
        _balance(head)
        for weight in weights:
            for rows in weight:  # a part at a time: the temporaries are small
                rows.copy_(_rounded(rows))


def _rounded(rows: Tensor) -> Tensor:
    steps = steps_of(rows)
    return (rows / steps).round() * steps


def _balance(head: RegionEnsemble) -> None:
    """Moves powers of two from the last layer's columns to the rows before: a ReLU lets them pass."""
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
