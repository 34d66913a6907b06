# SPDX-License-Identifier: MIT
"""Comparison of outputs, before anything is timed."""

from __future__ import annotations

from typing import Any

import torch


def assert_equal(name: str, got: Any, wanted: Any, *, most: float, mean: float | None = None) -> None:
    """Check that two tensors or arrays agree.

    Args:
        name: the implementation that computed `got`.
        got: its output.
        wanted: the output of the reference.
        most: tolerance of each value.
        mean: tolerance of the mean absolute difference.

    Raises:
        AssertionError: A shape or a value differs by more than the tolerance.
    """
    got, wanted = (torch.as_tensor(values).double().cpu() for values in (got, wanted))
    assert got.shape == wanted.shape, f"{name} gives {tuple(got.shape)}, the reference {tuple(wanted.shape)}"
    difference = (got - wanted).abs()
    worst, average = float(difference.max()), float(difference.mean())
    assert worst <= most, f"{name} is {worst:g} from the reference, more than {most:g}"
    assert mean is None or average <= mean, f"{name} is {average:g} from the reference on average, more than {mean:g}"
