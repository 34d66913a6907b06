# SPDX-License-Identifier: MIT
"""How joints are given to others: coordinates, unit of length, coordinate frame and joint order."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
import numpy.typing as npt

from poseren_ext.geometry.joint_orders import anatomy, in_order, joint_names, missing_joints
from poseren_ext.geometry.palm_frame import palm_frame, to_palm
from poseren_ext.geometry.skeleton import Skeleton

Space: TypeAlias = Literal["uvd", "xyz"]
LengthUnit: TypeAlias = Literal["mm", "m"]
CoordinateFrame: TypeAlias = Literal["camera", "palm", "world"]
Joints: TypeAlias = npt.NDArray[np.float64]

_ROTATION_TOLERANCE = 1e-3


@dataclass(frozen=True)
class JointLayout:
    """Coordinates, unit, frame and order of joints that are written or handed on.

    Attributes:
        space: "uvd" (pixels, pixels, mm) or "xyz".
        unit: of xyz: "mm" or "m".
        frame: of xyz: "camera" (x right, y down, z forward); "palm" (origin at the wrist, axes as in
            `poseren_ext.geometry.palm_frame`); "world" (by `extrinsics`).
        order: a joint order of `poseren_ext.geometry.joint_orders.ORDERS`; None keeps the skeleton's own.
        extrinsics: [4, 4], leads from camera to world coordinates; its translation is in `unit`.

    Raises:
        ValueError: A value is unknown; uvd is in metres or not in the camera frame; the world frame has no extrinsics
            or they are not a rotation and a translation.
    """

    space: Space = "uvd"
    unit: LengthUnit = "mm"
    frame: CoordinateFrame = "camera"
    order: str | None = None
    extrinsics: npt.NDArray[np.float64] | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("space", self.space, get_args(Space)),
            ("unit", self.unit, get_args(LengthUnit)),
            ("frame", self.frame, get_args(CoordinateFrame)),
        ):
            if value not in choices:
                raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
        if self.space == "uvd" and (self.unit, self.frame) != ("mm", "camera"):
            raise ValueError(
                f"uvd is in pixels and mm of the camera, not in {self.unit} of the {self.frame}; choose xyz for that"
            )
        if self.order is not None:
            joint_names(self.order)
        if (self.frame == "world") != (self.extrinsics is not None):
            given = "extrinsics without the frame 'world'" if self.frame != "world" else "the frame 'world' alone"
            raise ValueError(f"{given}: give both, the extrinsics as a matrix [4, 4] from camera to world")
        if self.extrinsics is not None:
            object.__setattr__(self, "extrinsics", check_extrinsics(self.extrinsics))

    @property
    def decimals(self) -> int:
        """Decimals in text: a thousandth of a pixel or of a millimetre."""
        return 6 if self.unit == "m" else 3

    def joint_names(self, skeleton: Skeleton) -> tuple[str, ...]:
        """The joints that are given, by name."""
        return skeleton.joints if self.order is None else joint_names(self.order)

    def missing_joints(self, skeleton: Skeleton) -> tuple[str, ...]:
        """Joints of the order that the skeleton does not have; they are NaN."""
        return () if self.order is None else missing_joints(skeleton, self.order)

    def check(self, skeleton: Skeleton) -> None:
        """Refuse what the skeleton cannot give.

        Raises:
            ValueError: The frame is "palm" and the skeleton has no wrist or no MCP joints.
        """
        if self.frame == "palm":
            palm_frame(np.zeros((1, skeleton.num_joints, 3), np.float32), skeleton)
        if len(self.missing_joints(skeleton)) == len(self.joint_names(skeleton)):
            raise ValueError(f"the order {self.order} has no joint of {skeleton.name}: {', '.join(anatomy(skeleton))}")

    def apply(self, uvd: Any, xyz: Any, skeleton: Skeleton) -> Any:
        """The joints in this layout.

        Args:
            uvd: [..., J, 3]: pixels, pixels, mm; a floating-point tensor or array.
            xyz: the same joints in mm, camera frame, of the same kind.
            skeleton: whose joints they are.

        Returns:
            Any: [..., K, 3] of the same kind: NaN for joints that the skeleton does not have.

        Raises:
            ValueError: the skeleton has no palm frame.
        """
        joints = uvd if self.space == "uvd" else xyz
        if self.frame == "palm":
            joints = to_palm(joints, skeleton)
        if self.unit == "m":
            joints = joints * 1e-3
        if self.extrinsics is not None:
            matrix = self.extrinsics
            rotation, translation = matrix[:3, :3], matrix[:3, 3]
            if hasattr(joints, "new_tensor"):
                rotation, translation = joints.new_tensor(rotation), joints.new_tensor(translation)
            else:
                rotation, translation = rotation.astype(joints.dtype), translation.astype(joints.dtype)
            joints = joints @ rotation.T + translation
        return joints if self.order is None else in_order(joints, skeleton, self.order)

    def describe(self, skeleton: Skeleton) -> dict[str, Any]:
        """The layout as it stands in files: names of the joints and coordinates, units and frame."""
        return {
            "skeleton": skeleton.name,
            "order": self.order or skeleton.name,
            "joint_names": list(self.joint_names(skeleton)),
            "missing_joints": list(self.missing_joints(skeleton)),
            "space": self.space,
            "units": ["px", "px", "mm"] if self.space == "uvd" else [self.unit] * 3,
            "coordinate_frame": self.frame,
            **({} if self.extrinsics is None else {"extrinsics": self.extrinsics.tolist()}),
        }


def check_extrinsics(matrix: Any) -> npt.NDArray[np.float64]:
    """A matrix [4, 4] or [3, 4] from camera to world as [4, 4].

    Raises:
        ValueError: The shape is another, a value is not finite, or the 3x3 part is not a rotation.
    """
    array = np.asarray(matrix, dtype=np.float64)
    if array.shape == (3, 4):
        array = np.vstack([array, [0.0, 0.0, 0.0, 1.0]])
    if array.shape != (4, 4) or not np.isfinite(array).all():
        raise ValueError(f"extrinsics have shape {list(array.shape)}; expected a finite matrix [4, 4] or [3, 4]")
    rotation = array[:3, :3]
    orthonormal = np.abs(rotation @ rotation.T - np.eye(3)).max() < _ROTATION_TOLERANCE
    if not orthonormal or np.linalg.det(rotation) < 0 or not np.allclose(array[3], [0, 0, 0, 1]):
        raise ValueError(
            "extrinsics are not a rotation and a translation: expected a right-handed orthonormal 3x3 part and the "
            "last row 0 0 0 1"
        )
    return array


def read_extrinsics(path: str | os.PathLike[str]) -> npt.NDArray[np.float64]:
    """A camera-to-world matrix from a file: 16 or 12 numbers as text, a JSON list of rows, or .npy.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: The file does not contain such a matrix.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected a matrix [4, 4] from camera to world")
    try:
        if path.suffix.lower() == ".npy":
            values = np.load(path, allow_pickle=False)
        elif path.suffix.lower() == ".json":
            values = np.asarray(json.loads(path.read_text(encoding="utf-8")), dtype=np.float64)
        else:
            values = np.array(path.read_text(encoding="utf-8-sig").replace(",", " ").split(), dtype=np.float64)
            values = values.reshape({16: (4, 4), 12: (3, 4)}.get(values.size, (-1,)))
        return check_extrinsics(values)
    except (ValueError, OSError, EOFError) as error:
        raise ValueError(f"{path}: {error}") from None
