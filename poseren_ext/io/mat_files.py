# SPDX-License-Identifier: MIT
"""MATLAB files: arrays of a ``.mat`` file up to version 7, and a clear error for version 7.3."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PathLike = str | os.PathLike[str]


def read_mat(path: PathLike, key: str | None, error: type[ValueError]) -> tuple[str, npt.NDArray[Any]]:
    """One array of a MATLAB file.

    Args:
        path: the file.
        key: name of the array; None where the file holds only one.
        error: type of the errors raised.

    Returns:
        Its name, and the array as stored.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: scipy is not installed.
        ValueError: The file is damaged, in the HDF5 format of version 7.3, or does not hold that array. Of the given
            type.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a MATLAB file")
    with path.open("rb") as file:
        head = file.read(1024)
    if head.startswith(b"MATLAB 7.3") or b"\x89HDF\r\n\x1a\n" in head:
        raise error(
            f"{path}: a MATLAB 7.3 file (HDF5), which scipy cannot read; save it again in MATLAB with "
            "save(..., '-v7'), or write the array as text, one line per frame"
        )
    try:
        from scipy.io import loadmat
    except ImportError:
        raise ImportError(f"{path} is read with scipy: pip install 'poseren_ext[train]'") from None
    try:
        content = loadmat(path, variable_names=None if key is None else [key])
    except Exception as fault:  # the parser of scipy raises errors of any type
        raise error(f"{path}: not a readable MATLAB file ({fault}); is it truncated?") from fault
    arrays = {
        name: value
        for name, value in content.items()
        if not name.startswith("__") and isinstance(value, np.ndarray) and value.dtype.kind in "fiu"
    }
    if key is None and len(arrays) == 1:
        key = next(iter(arrays))
    if key is None or key not in arrays:
        found = ", ".join(f"{name} {list(value.shape)}" for name, value in arrays.items()) or "none"
        if key is not None:
            found = ", ".join(_names(path)) or "none"
        asked = "several arrays" if key is None else f"no array of numbers named {key!r}"
        raise error(f"{path}: {asked}; the file holds {found}. Name the array of joints with --key")
    return key, arrays[key]


def _names(path: Path) -> list[str]:
    """Names and shapes of a MATLAB file's variables."""
    from scipy.io import whosmat

    return [f"{name} {list(shape)}" for name, shape, _ in whosmat(path)]


def joints_of_array(path: PathLike, key: str, array: npt.NDArray[Any], error: type[ValueError]) -> npt.NDArray[Any]:
    """Joints float64 [N, K, 3] of an array [N, K, 3], [1, N, K, 3], [N, 3K], or [K, 3, N].

    Raises:
        ValueError: The array has another shape, or holds NaN or infinity. Of the given type.
    """
    values = np.asarray(array, np.float64)
    if values.ndim == 4 and values.shape[0] == 1:
        values = values[0]
    if values.ndim == 3 and values.shape[2] != 3 and values.shape[1] == 3:
        values = values.transpose(2, 0, 1)
    if values.ndim == 2 and values.shape[1] % 3 == 0:
        values = values.reshape(len(values), -1, 3)
    if values.ndim != 3 or values.shape[2] != 3 or 0 in values.shape:
        raise error(
            f"{path}: {key} has shape {list(array.shape)}; expected [frames, joints, 3], [1, frames, joints, 3], "
            "[frames, 3 x joints] or [joints, 3, frames]"
        )
    if not np.isfinite(values).all():
        frame = int(np.argwhere(~np.isfinite(values))[0, 0])
        raise error(f"{path}: {key} of frame {frame} holds NaN or infinity; expected finite numbers")
    return values
