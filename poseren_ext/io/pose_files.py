# SPDX-License-Identifier: MIT
"""Label and prediction files: one line per frame, ``u v d`` of each joint (pixels, pixels, mm), no header.

This is the format of the published result files, and the text format of `poseren predict`.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import numpy.typing as npt

from poseren_ext._utils.atomic_files import atomic_file
from poseren_ext.io.mat_files import joints_of_array, read_mat
from poseren_ext.io.number_tables import ColumnCountError, read_number_table

Poses = npt.NDArray[np.float64]
PathLike = str | os.PathLike[str]


_EXPECTED = "a text file of one line per frame, 3 numbers u v d per joint"


class PoseFileError(ValueError):
    """A pose file that is not what it should be; the message names the file, the line and what was expected."""


class JointCountError(PoseFileError):
    """A pose file with the joints of another skeleton.

    Attributes:
        found: joints in the file.
    """

    def __init__(self, message: str, found: int) -> None:
        super().__init__(message)
        self.found = found


def read_poses(
    path: PathLike,
    *,
    joints: int | None = None,
    frames: int | None = None,
    select: slice | None = None,
    columns: slice | None = None,
    key: str | None = None,
    in_front: bool = False,
    nan: bool = False,
) -> Poses:
    """Read a label or prediction file: text, or a MATLAB file (``.mat``).

    A text file has one line per frame, 3 numbers per joint. A first column of names is skipped.

    Args:
        path: the file.
        joints: J, where known; otherwise the first line tells.
        frames: how many lines the file must have (those of the labels it will be compared with), where known.
        select: frames to keep, start:stop, both within the file; the others are still checked. With `frames` given, a
            file of exactly the selected number of lines is taken to hold just those.
        columns: columns of a text file to read, counted from 0.
        key: name of the array in a MATLAB file; None where it holds only one.
        in_front: refuse joints whose depth is not positive, with their line.
        nan: accept lines of a text file with NaN, as `poseren predict` writes them for frames without a result.

    Returns:
        float64 [N, J, 3] as stored.

    Raises:
        FileNotFoundError: There is no such file.
        ImportError: A MATLAB file is given and scipy is not installed.
        PoseFileError: The format is another; a line is empty, has another number of values or a value that is not a
            finite number; the number of frames is another; or the selection lies outside the file.
    """
    path = Path(path)
    if path.suffix.lower() == ".mat":
        name, array = read_mat(path, key, PoseFileError)
        poses = joints_of_array(path, name, array, PoseFileError)
        if joints is not None and poses.shape[1] != joints:
            raise JointCountError(f"{path}: {name} has {poses.shape[1]} joints; expected {joints}", poses.shape[1])
        places = [f"{path}, frame {frame}" for frame in range(len(poses))] if in_front else []
    else:
        poses, lines = _read_text(path, joints, columns, nan)
        places = [f"{path}, line {line}" for line in lines] if in_front else []
    if in_front and float(np.median(poses[..., 2])) > 0:
        behind = (poses[..., 2] <= 0).any(1)
        if behind.any():
            first = int(np.flatnonzero(behind)[0])
            zero = " (all values are 0: a frame without an estimate?)" if not poses[first].any() else ""
            raise PoseFileError(
                f"{places[first]}: a joint has depth {poses[first, :, 2].min():g}{zero}; expected positive mm. "
                f"{int(behind.sum())} of {len(poses)} frames are like that; every frame counts in an evaluation: give "
                "an estimate for each, or compare a part with --frames A:B"
            )
    return selected(path, poses, frames, select)


def _read_text(path: Path, joints: int | None, columns: slice | None, nan: bool) -> tuple[Poses, list[int]]:
    """Joints [N, J, 3] of a text file, and the line that each frame is from."""
    what = _EXPECTED if joints is None else f"{3 * joints} numbers ({joints} joints x u v d)"
    expected = None if joints is None else 3 * joints
    try:
        table = read_number_table(
            path, what=what, error=PoseFileError, columns=expected, named=None, chosen=columns, nan=nan
        )
    except ColumnCountError as error:
        if error.found == 3 * (joints or 0) + 1 and columns is None:
            raise PoseFileError(f"{error}. If the first column numbers the frames, skip it: --columns 1:") from None
        if error.found % 3 == 0 and "line 1:" in str(error):
            raise JointCountError(str(error), error.found // 3) from None
        raise
    found = table.values.shape[1]
    if found == 0 or found % 3:
        raise PoseFileError(f"{path}, line 1: {found} values; expected 3 numbers u v d per joint, a multiple of 3")
    return table.values.reshape(len(table.values), -1, 3), table.lines.tolist()


def selected(path: Path, poses: Poses, frames: int | None, select: slice | None) -> Poses:
    """The poses of the selected frames; arguments and errors as in `read_poses`."""
    if frames is not None and select is not None and len(poses) == len(range(frames)[select]):
        return poses
    if frames is not None and len(poses) != frames:
        raise PoseFileError(
            f"{path}: {len(poses)} lines; the labels have {frames}. A prediction file has one line for every labelled "
            "frame, in the same order; to compare a part say which frames it holds (--frames A:B)"
        )
    if select is None:
        return poses
    start, stop = select.start or 0, len(poses) if select.stop is None else select.stop
    if not 0 <= start < stop <= len(poses):
        raise PoseFileError(f"{path}: frames {start}:{stop} asked for; the file has frames 0:{len(poses)}")
    return poses[start:stop]


def _checked(poses: npt.ArrayLike) -> Poses:
    array = np.asarray(poses, dtype=np.float64)
    if array.ndim != 3 or array.shape[2] != 3 or array.shape[1] == 0:
        raise ValueError(f"poses have shape {list(array.shape)}; expected [frames, joints, 3] = u, v, d")
    if not np.isfinite(array).all():
        frame = int(np.argwhere(~np.isfinite(array))[0, 0])
        raise ValueError(f"frame {frame} has a joint that is NaN or infinite; a pose file holds finite numbers only")
    return array


def _text(poses: Poses) -> str:
    # A thousandth of a pixel at arm's length is a thousandth of a millimetre: what published files carry.
    return "".join(" ".join(f"{value:.3f}" for value in frame) + "\n" for frame in poses.reshape(len(poses), -1))


def write_poses(path: PathLike, poses: npt.ArrayLike) -> None:
    """Write a whole file, or leave the old one untouched when anything goes wrong.

    Args:
        path: where to.
        poses: [N, J, 3], u and v in pixels, d in mm; written with three decimals.

    Raises:
        ValueError: poses has another shape, or a value is not finite.
        OSError: The folder is not writable.
    """
    text = _text(_checked(poses))
    with atomic_file(Path(path)) as file:
        file.write(text.encode("ascii"))


def require_uvd(path: PathLike, poses: Poses, width: int | None, height: int | None) -> None:
    """Refuse joints that cannot be u, v, d of a camera with this image size: xyz in a uvd file, or depth in metres.

    A hand may leave the image a little, so half an image of margin is allowed around it; millimetres around the optical
    axis are negative for half of all frames.

    Args:
        path: named in the message.
        poses: [N, J, 3].
        width: columns of the camera's image; None checks the depths only.
        height: rows of the camera's image.

    Raises:
        PoseFileError: Joints cannot be u, v, d; the message says what they look like and what to do.
    """
    low, high = poses.min((0, 1)), poses.max((0, 1))
    ranges = ", ".join(f"{axis} {a:.0f}..{b:.0f}" for axis, a, b in zip("uvd", low, high, strict=True))
    depth = float(np.median(poses[..., 2]))
    if depth < 0:
        raise PoseFileError(
            f"{path}: depths are negative ({ranges}): these are xyz whose z points at the camera; "
            "give --format xyz and --axes with the signs that lead to x right, y down, z away, e.g. --axes x,-y,-z"
        )
    if depth < 20:
        raise PoseFileError(f"{path}: depths look like metres ({ranges}); expected millimetres: multiply by 1000")
    if width is None or height is None:
        return
    size = np.array([width, height])
    outside = float(np.mean(((poses[..., :2] < 0) | (poses[..., :2] >= size)).any(-1)))
    margin = ((poses[..., :2] < -0.5 * size) | (poses[..., :2] > 1.5 * size)).any(-1)
    if outside > 0.05 and float(np.mean(poses[..., :2] < 0)) < 0.01:
        raise PoseFileError(
            f"{path}: {100 * outside:.0f} % of the joints lie outside the {width}x{height} image ({ranges}): they look "
            "like u v d of a larger image; give --camera with the intrinsics of the camera that these frames are from"
        )
    if outside > 0.05 or bool(margin.any()):
        raise PoseFileError(
            f"{path}: {100 * outside:.0f} % of the joints lie outside the {width}x{height} image ({ranges}): they look "
            "like xyz in millimetres, not u v d; give --format xyz (and --axes for the signs of the axes)"
        )
