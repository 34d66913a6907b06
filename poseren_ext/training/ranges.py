# SPDX-License-Identifier: MIT
"""Valid ranges of the numbers in a training configuration, and suggestions for unknown field names."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping

_FOREVER = math.inf
_RANGES: dict[str, tuple[float, float]] = {
    "seed": (0, 2**32 - 1),
    "cube": (30, 500),
    "frames": (1, 10_000_000),
    "batch": (1, _FOREVER),
    "accumulate": (1, _FOREVER),
    "stages": (1, 20),
    "chunk": (1, _FOREVER),
    "reuse": (1, _FOREVER),
    "log_every": (1, _FOREVER),
    "checkpoint_every": (1, _FOREVER),
    "validate_every": (0, _FOREVER),
    "validation_frames": (1, _FOREVER),
    "init_steps": (0, _FOREVER),
    "refine_steps": (0, _FOREVER),
    "init_epochs": (0, _FOREVER),
    "refine_epochs": (0, _FOREVER),
    "warmup": (0, _FOREVER),
    "dropout": (0, 0.95),
    "momentum": (0, 0.9999),
    "weight_decay": (0, 1),
    "clip": (0, _FOREVER),
    "rotation": (0, 180),
    "translation": (0, 48),
    "refine_translation": (0, 48),
    "scale": (0, 0.9),
    "depth_shift": (0, 150),
    "difficulty": (0, 1),
    "palm_share": (0, 1),
    "init_every": (0, _FOREVER),
}
"""Smallest and largest valid value of each field (inclusive)."""
_POSITIVE = ("learning_rate", "output_rate", "bias_rate", "refine_rate", "loss_beta", "decay")
_AT_MOST = {"decay": 1.0}


def check_ranges(values: Mapping[str, object]) -> None:
    """Checks the numbers of a configuration.

    Args:
        values: field -> value.

    Raises:
        ValueError: A number is not finite or outside its range; the message names the field, the value and the range.
    """
    for name, value in values.items():
        if not isinstance(value, int | float) or isinstance(value, bool):
            continue
        if not math.isfinite(value):
            raise ValueError(f"{name} is {value}; expected a finite number")
        low, high = _RANGES.get(name, (-_FOREVER, _FOREVER))
        if not low <= value <= high:
            expected = f"at least {low:g}" if high == _FOREVER else f"{low:g} to {high:.10g}"
            raise ValueError(f"the field {name} is {value:g}; expected {expected}")
        if name in _POSITIVE and not 0 < value <= _AT_MOST.get(name, _FOREVER):
            limit = f" and at most {_AT_MOST[name]:g}" if name in _AT_MOST else ""
            raise ValueError(f"{name} is {value:g}; expected a number above 0{limit}")


def unknown_field(name: str, known: Iterable[str]) -> str:
    """The message for a field that does not exist, with the nearest names."""
    fields = list(known)
    near = difflib.get_close_matches(name.lower(), fields, n=3, cutoff=0.5)
    near = near or [field for field in fields if name and "".join(word[0] for word in field.split("_")) == name.lower()]
    hint = f"did you mean {' or '.join(near)}?" if near else "the fields are those of poseren_ext.training.TrainConfig"
    return f"unknown field {name!r} in the training configuration; {hint}"
