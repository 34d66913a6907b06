# SPDX-License-Identifier: MIT
"""Poses that others wrote in other conventions: xyz instead of uvd, other axes, another order of the joints."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from poseren_ext.geometry.camera import Camera, uvd_to_xyz, xyz_to_uvd
from poseren_ext.io.pose_files import PathLike, PoseFileError, Poses


@dataclass(frozen=True)
class AxesConvention:
    """How the axes of a file lead to the camera frame (x right, y down, z away from the camera).

    Attributes:
        source: for each of our axes the file's axis that it comes from, 0 to 2.
        sign: and its sign.
    """

    source: tuple[int, int, int] = (0, 1, 2)
    sign: tuple[int, int, int] = (1, 1, 1)

    @classmethod
    def parse(cls, text: str) -> AxesConvention:
        """Read "x,y,z" with signs: "x,-y,z" for a file whose y points up, "x,-y,-z" for MSRA's.

        Raises:
            ValueError: The text does not name each of the three axes once.
        """
        parts = [part.strip().lower() for part in text.split(",")]
        names = [part.lstrip("+-") for part in parts]
        if sorted(names) != ["x", "y", "z"] or any(
            len(part) - len(name) > 1 for part, name in zip(parts, names, strict=True)
        ):
            raise ValueError(f"axes {text!r}: expected x, y and z, each once, with a sign, e.g. 'x,-y,z'")
        source = tuple("xyz".index(name) for name in names)
        sign = tuple(-1 if part.startswith("-") else 1 for part in parts)
        return cls(source, sign)  # type: ignore[arg-type]  # three each: checked above

    def apply(self, xyz: Poses) -> Poses:
        """Joints [..., 3] in the file's axes to the camera frame."""
        return np.asarray(xyz[..., list(self.source)] * np.array(self.sign, dtype=np.float64))


def xyz_file_to_uvd(path: PathLike, xyz: Poses, camera: Camera, axes: AxesConvention) -> Poses:
    """Joints of a file in millimetres to u, v, d.

    Args:
        path: named in messages.
        xyz: [N, J, 3] in the file's axes.
        camera: intrinsics that lead to pixels.
        axes: the file's convention.

    Returns:
        [N, J, 3].

    Raises:
        PoseFileError: Joints are behind the camera, or in metres.
    """
    joints = axes.apply(xyz)
    depth = joints[..., 2]
    if bool((depth <= 0).any()):
        hint = (
            "z points at the camera: add --axes x,-y,-z"
            if float(np.median(depth)) < 0
            else "is it relative to the hand?"
        )
        raise PoseFileError(f"{path}: {int((depth <= 0).sum())} joints lie behind the camera (z <= 0); {hint}")
    if float(np.median(depth)) < 20:
        raise PoseFileError(f"{path}: depths look like metres (median {np.median(depth):.3f}); expected millimetres")
    return xyz_to_uvd(joints, camera)


def require_plausible(path: PathLike, stored: Poses, uvd: Poses, labels: Poses, camera: Camera) -> None:
    """Refuse a file that makes no sense as it was read, but does in another convention.

    Args:
        path: named in the message.
        stored: joints [N, J, 3] as the file has them, in our joint order.
        uvd: the same joints as they were interpreted.
        labels: uvd [N, J, 3].
        camera: intrinsics.

    Raises:
        PoseFileError: the mean error is large, and much smaller in a convention that the message names.
    """
    given = _mean_error(uvd, labels, camera)
    if given < _SUSPICIOUS_MM:
        return
    for options, candidate in _readings(stored, camera):
        error = _mean_error(candidate, labels, camera)
        if error < given / 4:
            raise PoseFileError(
                f"{path}: the mean error is {given:.0f} mm as it was read, but {error:.1f} mm with {options}; "
                "say that if it is what the file holds"
            )


_SUSPICIOUS_MM = 60.0


def _readings(stored: Poses, camera: Camera) -> Iterator[tuple[str, Poses]]:
    """Every common convention in which all joints lie before the camera, with the options that ask for it."""
    if bool((stored[..., 2] > 0).all()):
        yield "--format uvd", stored
    for axes in ("x,y,z", "x,-y,z", "x,-y,-z", "-x,-y,z", "-x,y,z", "x,y,-z"):
        joints = AxesConvention.parse(axes).apply(stored)
        if bool((joints[..., 2] > 0).all()):
            yield f"--format xyz --axes {axes}", xyz_to_uvd(joints, camera)


def _mean_error(uvd: Poses, labels: Poses, camera: Camera) -> float:
    distance = np.linalg.norm(uvd_to_xyz(uvd, camera) - uvd_to_xyz(labels, camera), axis=-1)
    return float(distance.mean())


def suggest_options(
    stored: Poses, uvd: Poses, labels: Poses, camera: Camera, *, file_format: str, axes: str
) -> str | None:
    """The options under which the mean error would be less than half of what it is, if there are any.

    Two kinds of slips are tried: other signs of the axes, and another order of the joints.

    Args:
        stored: joints [N, J, 3] as the file has them, in the order that was asked for.
        uvd: the same joints as they were interpreted.
        labels: uvd [N, J, 3].
        camera: intrinsics.
        file_format: "uvd" or "xyz", as the file was read.
        axes: its axes, as the file was read.

    Returns:
        A sentence that names the error and the options, or None.
    """
    given = _mean_error(uvd, labels, camera)
    best, options = given / 2, ""
    asked = "--format uvd" if file_format == "uvd" else f"--format xyz --axes {axes}"
    for reading, candidate in _readings(stored, camera):
        error = _mean_error(candidate, labels, camera)
        if error < best and reading != asked:
            best, options = error, reading
    every = slice(None, None, max(1, len(uvd) // 500))
    ours, theirs = (uvd_to_xyz(poses[every], camera) for poses in (labels, uvd))
    cost = np.linalg.norm(ours[:, :, None] - theirs[:, None], axis=-1).mean(0)
    order = _assignment(cost)
    error = float(cost[np.arange(len(order)), order].mean())
    if error < best and order != list(range(len(order))):
        best, options = error, f"--order {','.join(map(str, order))}"
    return f"the mean error is {given:.1f} mm; it would be {best:.1f} mm with {options}" if options else None


def _assignment(cost: Poses) -> list[int]:
    """For each row the column of the cheapest one-to-one assignment (Hungarian method with potentials)."""
    n = len(cost)
    row_price, column_price = np.zeros(n + 1), np.zeros(n + 1)
    row_of = np.zeros(n + 1, np.int64)  # the row that each column is given to; 0 is none, and column 0 a start
    for row in range(1, n + 1):
        row_of[0], column = row, 0
        least, before = np.full(n + 1, np.inf), np.zeros(n + 1, np.int64)
        used = np.zeros(n + 1, bool)
        while row_of[column]:
            used[column] = True
            reduced = cost[row_of[column] - 1] - row_price[row_of[column]] - column_price[1:]
            better = ~used[1:] & (reduced < least[1:])
            least[1:][better], before[1:][better] = reduced[better], column
            following = int(np.where(used[1:], np.inf, least[1:]).argmin()) + 1
            step = least[following]
            row_price[row_of[used]] += step
            column_price[used] -= step
            least[~used] -= step
            column = following
        while column:
            row_of[column] = row_of[before[column]]
            column = int(before[column])
    order = [0] * n
    for column in range(1, n + 1):
        order[row_of[column] - 1] = column - 1
    return order


def parse_order(text: str, joints: int) -> tuple[int, ...]:
    """Read an order such as "3,0,1,2": our joint i is the file's joint order[i]. The file may hold more joints.

    Raises:
        ValueError: The text is not `joints` different numbers from 0.
    """
    try:
        order = tuple(int(part) for part in text.split(","))
    except ValueError:
        order = ()
    if len(order) != joints or len(set(order)) != joints or min(order) < 0:
        raise ValueError(
            f"order {text!r}: expected {joints} different indices of the file's joints, from 0, separated by commas"
        )
    return order


def reorder(path: PathLike, poses: Poses, order: Sequence[int]) -> Poses:
    """Joints [N, K, 3] of a file in our order, [N, J, 3].

    Raises:
        PoseFileError: The order names a joint that the file does not have.
    """
    if max(order) >= poses.shape[1]:
        raise PoseFileError(f"{path}: {poses.shape[1]} joints; --order names joint {max(order)}")
    return poses[:, list(order)]
