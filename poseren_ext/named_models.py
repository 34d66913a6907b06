# SPDX-License-Identifier: MIT
"""A model by its name, its path, or itself."""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

from poseren_ext.models import PackedPoseREN, PoseREN, load
from poseren_ext.weights import BUNDLED

Precision: TypeAlias = Literal["float32", "bfloat16", "int8"]


def load_model(model: PoseREN | str | os.PathLike[str]) -> PoseREN:
    """A model itself, by the name of a bundled one, or by the path of a safetensors file.

    Raises:
        TypeError: none of these.
        FileNotFoundError: neither a name nor a file.
        ValueError: a file that holds no model of ours.
    """
    if isinstance(model, PoseREN):
        return model
    if not isinstance(model, str | os.PathLike):
        raise TypeError(f"model is a {type(model).__name__}; expected a PoseREN, a path or one of {list(BUNDLED)}")
    return load(_model_file(model))


def packed_model(model: PoseREN | str | os.PathLike[str], precision: Precision) -> PackedPoseREN:
    """A model as it runs; one from a file once for all estimators of it."""
    if not isinstance(model, str | os.PathLike):
        return PackedPoseREN(load_model(model), precision)
    path = _model_file(model)
    return _pack_once(path, path.stat().st_mtime_ns, precision)


@lru_cache(maxsize=4)
def _pack_once(path: Path, modified: int, precision: Precision) -> PackedPoseREN:
    return PackedPoseREN(load(path), precision)


def _model_file(model: str | os.PathLike[str]) -> Path:
    path = Path(BUNDLED.get(str(model), model))
    if not path.exists():
        raise FileNotFoundError(f"no model at {str(model)!r}; expected a safetensors file or one of {list(BUNDLED)}")
    return path
