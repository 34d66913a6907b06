# SPDX-License-Identifier: MIT
"""Hand centres: from a file, from an array, or from the image by each dataset's depth thresholds.

The centre is the centroid of the hand region (paper, section 3.5). Labels are not used.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from torch import Tensor

from poseren_ext.io.pose_files import read_poses
from poseren_ext.ops import hand_center

Centers: TypeAlias = Literal["image"] | os.PathLike[str] | npt.NDArray[Any] | Tensor
"""Source of the centres: "image" (thresholds), a file (a ``Path``), or [N, 3] u, v (pixels), z (mm)."""


def read_centers(path: str | os.PathLike[str], frames: int) -> npt.NDArray[np.float32]:
    """Centres from a text file: one line per frame, ``u v z`` (pixels, pixels, mm).

    Args:
        path: the file.
        frames: how many lines it must have.

    Returns:
        float32 [frames, 3].

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file has another format or number of lines, or a depth is not positive.
    """
    return _checked(read_poses(path, joints=1, frames=frames)[:, 0], frames, str(path))


def resolve_centers(centers: Centers, frames: int) -> npt.NDArray[np.float32] | None:
    """Centres as float32 [frames, 3], or None if they are computed from the image.

    Raises:
        TypeError: centers is not "image", a path or an array.
        ValueError: The file or array does not fit the frames.
        FileNotFoundError: The file does not exist.
    """
    if isinstance(centers, str):
        if centers == "image":
            return None
        raise ValueError(f"centers is {centers!r}; expected 'image', the path of a file (a Path) or an array [N, 3]")
    if isinstance(centers, os.PathLike):
        return read_centers(Path(centers), frames)
    if isinstance(centers, Tensor):
        centers = centers.detach().cpu().numpy()
    if not isinstance(centers, np.ndarray):
        raise TypeError(f"centers is a {type(centers).__name__}; expected 'image', a Path or an array [{frames}, 3]")
    return _checked(centers, frames, "centers")


def image_center(depth: Tensor, thresholds: tuple[float, float], name: str, mask: Tensor | None = None) -> Tensor:
    """Centroid of the pixels between two depths.

    Args:
        depth: [H, W] mm.
        thresholds: nearest and farthest depth, mm.
        name: name of the frame, for messages.
        mask: bool [H, W], the pixels that count.

    Returns:
        Tensor: float32 [3]: u, v (pixels), z (mm).

    Raises:
        ValueError: No pixel lies between the thresholds.
    """
    near, far = thresholds
    center, count = hand_center(depth, near=near, far=far, mask=mask)
    if not int(count):
        raise ValueError(
            f"{name}: no pixel between {near:g} and {far:g} mm: no hand region to take the centre of; "
            "give centres as a file or an array"
        )
    return center


def _checked(centers: npt.NDArray[Any], frames: int, source: str) -> npt.NDArray[np.float32]:
    if centers.shape != (frames, 3):
        raise ValueError(f"{source} has shape {list(centers.shape)}; expected [{frames}, 3]: u, v, z for every frame")
    usable = np.isfinite(centers).all(1) & (centers[:, 2] > 0)
    if not usable.all():
        first = int(np.flatnonzero(~usable)[0])
        raise ValueError(
            f"{source}: the centre of frame {first} is {centers[first].tolist()}; expected u, v in pixels and a "
            "positive depth in mm"
        )
    return np.ascontiguousarray(centers, np.float32)
