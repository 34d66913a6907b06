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
            ValueError: not the three axes, each once.
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
        PoseFileError: joints behind the camera, or in metres.
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
        uvd: the same as they were understood.
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


def parse_order(text: str, joints: int) -> tuple[int, ...]:
    """Read a permutation such as "3,0,1,2": our joint i is the file's joint order[i].

    Raises:
        ValueError: not every index from 0 to joints - 1 once.
    """
    try:
        order = tuple(int(part) for part in text.split(","))
    except ValueError:
        order = ()
    if sorted(order) != list(range(joints)):
        raise ValueError(f"order {text!r}: expected every number from 0 to {joints - 1} once, separated by commas")
    return order


def reorder(poses: Poses, order: Sequence[int]) -> Poses:
    """Joints [N, J, 3] of a file in our order."""
    return poses[:, list(order)]
