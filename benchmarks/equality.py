# SPDX-License-Identifier: MIT
"""Equality before time."""

from __future__ import annotations

from typing import Any

import torch


def assert_equal(name: str, got: Any, wanted: Any, *, most: float, mean: float | None = None) -> None:
    """Tensors or arrays agree.

    Args:
        name: whose result `got` is.
        got: what it computed.
        wanted: what the reference did.
        most: largest difference of a value.
        mean: largest mean difference, where `most` alone is too lenient to say much.

    Raises:
        AssertionError: they do not.
    """
    got, wanted = (torch.as_tensor(values).double().cpu() for values in (got, wanted))
    assert got.shape == wanted.shape, f"{name} gives {tuple(got.shape)}, the reference {tuple(wanted.shape)}"
    difference = (got - wanted).abs()
    worst, average = float(difference.max()), float(difference.mean())
    assert worst <= most, f"{name} is {worst:g} from the reference, more than {most:g}"
    assert mean is None or average <= mean, f"{name} is {average:g} from the reference on average, more than {mean:g}"
