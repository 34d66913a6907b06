# SPDX-License-Identifier: MIT
"""Reads the files of joints that name what they hold: the CSV, JSON, .npz and Parquet files of `poseren predict`."""

from __future__ import annotations

import csv
import json
import lzma
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from poseren_ext.geometry.camera import Camera, uvd_to_xyz, xyz_to_uvd
from poseren_ext.geometry.joint_orders import as_anatomy
from poseren_ext.io.joint_files import CSV_COLUMNS, require_format
from poseren_ext.io.joint_layout import Joints, check_extrinsics
from poseren_ext.io.number_tables import MAX_FILE_BYTES, read_lines
from poseren_ext.io.pose_files import Poses, selected

ENDINGS = (".csv", ".json", ".npz", ".parquet")

_WHAT = "a file of joints as poseren predict writes it"
_METRES = 20.0  # a median distance below is not in millimetres
_DAMAGED = (
    *(SyntaxError, MemoryError, ValueError, TypeError, OverflowError, EOFError, OSError, RuntimeError, KeyError),
    *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError, RecursionError),
    SystemError,  # a NumPy array of strings with numbers that are no characters
)


class JointTableError(ValueError):
    """A file of joints that is damaged, or that does not hold what is asked for."""


class JointNamesError(JointTableError):
    """A file without some of the joints.

    Attributes:
        names: the joints of the file, by anatomy.
    """

    def __init__(self, message: str, names: Sequence[str]) -> None:
        super().__init__(message)
        self.names = names


@dataclass(frozen=True, eq=False)
class JointTable:
    """Joints of a number of frames, one row per hand, or for a frame without one.

    Attributes:
        path: the file.
        frames: name of each row's frame.
        hand_ids: number of each row's hand in its frame, from 0.
        sides: "left" or "right", or "" where it is not known.
        joints: [N, K, 3] as stored; NaN where a joint or the hand is missing.
        names: the K joints.
        layout: "space", "units" and "coordinate_frame" as `JointLayout.describe` gives them, and "extrinsics" if any.
        lines: the line of each row in a text file; empty for other files.
    """

    path: Path
    frames: Sequence[str]
    hand_ids: Sequence[int]
    sides: Sequence[str]
    joints: Joints
    names: tuple[str, ...]
    layout: dict[str, Any]
    lines: Sequence[int] = ()

    def place(self, row: int) -> str:
        """Where a row is, for messages."""
        return f"{self.path}, line {self.lines[row]}" if self.lines else f"{self.path}, frame {self.frames[row]}"

    def chosen(self, joints: Sequence[str]) -> Joints:
        """The rows [N, J, 3] of these joints, by name: as they are called in the file, or by anatomy.

        Raises:
            JointNamesError: the file has no such joint.
        """
        for names, wanted in ((self.names, tuple(joints)), (as_anatomy(self.names), as_anatomy(joints))):
            if set(wanted) <= set(names):
                return self.joints[:, [names.index(one) for one in wanted]]
        known = as_anatomy(self.names)
        lacking = ", ".join(one for one in as_anatomy(joints) if one not in known)
        raise JointNamesError(f"{self.path}: {len(known)} joints, without {lacking}", known)

    def uvd(self, joints: Sequence[str], camera: Camera) -> Joints:
        """These joints [N, J, 3] in pixels, pixels and mm; NaN where one is missing.

        Raises:
            JointTableError: the file has no such joint, or its joints have no place in front of the camera.
        """
        stored = self.chosen(joints)
        return stored if self.layout["space"] == "uvd" else xyz_to_uvd(self._in_camera(stored), camera, check=False)

    def xyz(self, joints: Sequence[str], camera: Camera) -> Joints:
        """These joints [N, J, 3] in mm of the camera; otherwise as `uvd`."""
        stored = self.chosen(joints)
        return uvd_to_xyz(stored, camera, check=False) if self.layout["space"] == "uvd" else self._in_camera(stored)

    def _in_camera(self, xyz: Joints) -> Joints:
        frame, unit = self.layout["coordinate_frame"], self.layout["units"][0]
        if frame == "palm":
            raise JointTableError(
                f"{self.path}: joints in the palm frame, which does not tell where the hand is; expected the camera "
                "frame (predict without --frame palm)"
            )
        if frame == "world":
            matrix = self.layout["extrinsics"]
            xyz = (xyz - matrix[:3, 3]) @ matrix[:3, :3]
        xyz = xyz * (1000.0 if unit == "m" else 1.0)
        depth = xyz[..., 2][np.isfinite(xyz[..., 2])]
        if depth.size and 0 < float(np.median(depth)) < _METRES:
            raise JointTableError(
                f"{self.path}: depths look like metres (median {np.median(depth):.3f}), but the unit is {unit}; a .csv "
                f"file's unit is in the record that poseren predict writes next to it ({self.path.name}.json)"
            )
        if depth.size and (depth <= 0).any():
            raise JointTableError(f"{self.path}: {int((depth <= 0).sum())} joints lie behind the camera (z <= 0)")
        return xyz


def tells_its_joints(path: Path) -> bool:
    """Whether a file says which joints it holds, as those do that `read_joint_table` reads."""
    suffix = path.suffix.lower()
    if suffix == ".csv":
        return "frame" in next(csv.reader(read_lines(path, _WHAT, JointTableError)[:1]))
    return suffix in ENDINGS


def is_joint_table(path: Path) -> bool:
    """Whether a file that is found in a folder is one of joints: not another CSV file, or another JSON file."""
    if path.suffix.lower() != ".json":
        return tells_its_joints(path)
    try:
        content = json.loads(path.read_bytes())
    except (ValueError, RecursionError):
        return False
    return isinstance(content, dict) and "joint_names" in content


def read_frame_poses(
    path: Path, joints: Sequence[str], camera: Camera, *, frames: int | None = None, select: slice | None = None
) -> Poses:
    """One pose per frame of a file of joints, in pixels, pixels and mm.

    Args:
        path: the file.
        joints: names of the J joints.
        camera: intrinsics, for joints in xyz.
        frames: as in `read_poses`.
        select: as in `read_poses`.

    Returns:
        float64 [N, J, 3].

    Raises:
        FileNotFoundError: There is no such file.
        ModuleNotFoundError: A Parquet file is given and pyarrow is not installed.
        JointTableError: The file is damaged, or lacks joints; a frame has several hands, or no pose.
        PoseFileError: The number of frames is another, or the selection lies outside the file.
    """
    table = read_joint_table(path)
    if any(table.hand_ids):
        raise JointTableError(
            f"{path}: several hands in frame {table.frames[next(i for i, one in enumerate(table.hand_ids) if one)]}; "
            "expected one per frame; labels in a .csv file have any number (--gt hands.csv)"
        )
    every = table.uvd(joints, camera)
    poses = selected(path, every, frames, select)
    first = 0 if len(poses) == len(every) or select is None else select.start or 0
    lacking = ~(np.isfinite(poses).all((1, 2)) & (poses[..., 2] > 0).all(1))
    if lacking.any():
        raise JointTableError(
            f"{table.place(first + int(lacking.argmax()))}: no pose, or not of all joints. {int(lacking.sum())} of "
            f"{len(poses)} frames are like that; every frame counts in an evaluation: give an estimate for each, or "
            "compare a part with --frames A:B"
        )
    return poses


def read_joint_table(path: Path, error: type[ValueError] = JointTableError) -> JointTable:
    """Read a file of joints; the ending tells its format, and one that is not known is CSV.

    A CSV file has a header with `frame` and `NAME_u`, `NAME_v`, `NAME_d` (pixels, pixels, mm) or `NAME_x`, `NAME_y`,
    `NAME_z` of every joint; other columns than `hand_id` and `hand` or `side` are not read. The record of
    `poseren predict` next to it tells the unit and the frame; without one they are mm and the camera.

    Args:
        path: the file.
        error: type of the errors raised for what is in it.

    Raises:
        FileNotFoundError: There is no such file.
        ModuleNotFoundError: A Parquet file is given and pyarrow is not installed.
        JointTableError: The file is damaged or holds something else; of the given type.
    """
    readers = {".json": _read_json, ".npz": _read_npz, ".parquet": _read_parquet}
    read = readers.get(path.suffix.lower())
    if read is None:
        return _read_csv(path, error)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected {_WHAT}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise error(f"{path}: {path.stat().st_size} bytes; expected at most {MAX_FILE_BYTES}: split it")
    if read is _read_parquet:
        require_format("parquet")
    try:
        return read(path)
    except _DAMAGED as fault:
        raise error(f"{path}: {_reason(fault)}; expected {_WHAT}") from None


def _reason(fault: Exception) -> str:
    return f"no {fault}" if isinstance(fault, KeyError) else str(fault) or type(fault).__name__


def _read_csv(path: Path, error: type[ValueError]) -> JointTable:
    rows = csv.reader(read_lines(path, "a CSV file with one line per hand", error))
    head = [name.replace(" ", "_") for name in next(rows)]
    axes = "uvd" if any(name.endswith("_u") for name in head) else "xyz"
    names = [name[:-2] for name in head if name.endswith(f"_{axes[0]}")]
    try:
        frame = head.index("frame")
        columns = [head.index(f"{name}_{axis}") for name in names for axis in axes]
    except ValueError as fault:
        raise error(f"{path}: no column {str(fault).split(' is')[0]}; expected {_WHAT}") from None
    if not names:
        raise error(f"{path}: no columns of joints; expected frame, side, NAME_u, NAME_v, NAME_d, ...")
    side = next((head.index(name) for name in ("side", "hand") if name in head), None)
    number_of = head.index("hand_id") if "hand_id" in head else None
    frames: list[str] = []
    ids: list[int] = []
    sides: list[str] = []
    values: list[list[float]] = []
    for line, row in enumerate(rows, start=2):
        try:
            cells = [row[column] if column < len(row) else "" for column in columns]
            values.append([float(cell) if cell else np.nan for cell in cells])
            frames.append(row[frame])
            ids.append(0 if number_of is None else int(row[number_of]))
            sides.append(row[side] if side is not None and side < len(row) else "")
        except (ValueError, IndexError) as fault:
            raise error(f"{path}, line {line}: {fault}") from None
    joints = np.array(values).reshape(-1, len(names), 3)
    spoken = tuple(name.replace("_", " ") for name in names)
    layout = _layout(_recorded(path, axes, len(names)))
    return JointTable(path, frames, ids, sides, joints, spoken, layout, range(2, len(frames) + 2))


def _recorded(path: Path, axes: str, joints: int) -> dict[str, Any]:
    """The layout in the record next to a CSV file, where it is that of the file's columns; else mm of the camera."""
    plain = {"space": axes, "units": ["px", "px", "mm"] if axes == "uvd" else ["mm"] * 3, "coordinate_frame": "camera"}
    try:
        layout = json.loads(path.with_name(f"{path.name}.json").read_bytes())["layout"]
        fits = layout["space"] == axes and len(layout["joint_names"]) == joints
        return _layout(layout) if fits else plain
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return plain


def _layout(about: dict[str, Any]) -> dict[str, Any]:
    """The layout that a file tells.

    Raises:
        KeyError, TypeError, ValueError: It is not one.
    """
    space, units, frame = about["space"], list(about["units"]), about["coordinate_frame"]
    if (space, *units, frame) != ("uvd", "px", "px", "mm", "camera") and (
        space != "xyz" or units not in (["mm"] * 3, ["m"] * 3) or frame not in ("camera", "palm", "world")
    ):
        raise ValueError(f"joints as {space} in {units} of the {frame}")
    layout = {"space": space, "units": units, "coordinate_frame": frame}
    return {**layout, "extrinsics": check_extrinsics(about["extrinsics"])} if frame == "world" else layout


def _read_json(path: Path) -> JointTable:
    content = json.loads(path.read_bytes())
    if isinstance(content, dict) and "record" in content and "file" in content:
        raise ValueError(f"the record of a run, whose joints are in {content['file']}")
    names = _names(content["joint_names"])
    records = content["frames"]
    nothing = [None] * len(names)
    values = [[joint or [None] * 3 for joint in record["joints"] or nothing] for record in records]
    joints = np.array(values, dtype=np.float64).reshape(len(records), -1, 3)  # None: NaN
    return _table(
        path,
        [record["frame"] for record in records],
        [record["hand_id"] for record in records],
        [record.get("hand", "") for record in records],
        joints,
        names,
        content,
    )


def _read_npz(path: Path) -> JointTable:
    with zipfile.ZipFile(path) as archive:
        size = sum(member.file_size for member in archive.infolist())
    if size > MAX_FILE_BYTES:
        raise ValueError(f"{size} bytes unpacked; expected at most {MAX_FILE_BYTES}: split it")
    with np.load(path, allow_pickle=False) as archive:
        held = {name: archive[name] for name in ("joints", "frames", "hand_ids", "hands", "joint_names", "about")}
    for name, array in held.items():
        if not isinstance(array, np.ndarray):  # NumPy gives a member without the header of an array as bytes
            raise ValueError(f"{name} is no array")
    frames, ids, sides = (held[name].tolist() for name in ("frames", "hand_ids", "hands"))
    names, about = _names(held["joint_names"].tolist()), json.loads(str(held["about"]))
    return _table(path, frames, ids, sides, held["joints"].astype(np.float64), names, about)


def _read_parquet(path: Path) -> JointTable:
    import pyarrow.parquet as pq

    with pq.ParquetFile(path) as file:
        size = 8 * file.metadata.num_rows * file.metadata.num_columns
        if size > MAX_FILE_BYTES:
            raise ValueError(f"{size} bytes unpacked; expected at most {MAX_FILE_BYTES}: split it")
        table = file.read()
    about = json.loads((table.schema.metadata or {})[b"poseren"])
    first = len(CSV_COLUMNS)
    columns = [table.column(index).to_numpy() for index in range(first, table.num_columns)]
    joints = np.stack(columns, 1).astype(np.float64).reshape(table.num_rows, -1, 3)
    frames, ids, sides = (table.column(name).to_pylist() for name in CSV_COLUMNS[:3])
    return _table(path, frames, ids, [side or "" for side in sides], joints, _names(about["joint_names"]), about)


def _names(names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ValueError("joint_names is not a list of names")
    return tuple(names)


def _table(
    path: Path,
    frames: Sequence[Any],
    ids: Sequence[Any],
    sides: Sequence[Any],
    joints: npt.NDArray[np.float64],
    names: tuple[str, ...],
    about: dict[str, Any],
) -> JointTable:
    """A table whose parts fit together.

    Raises:
        KeyError, TypeError, ValueError: They do not.
    """
    if joints.shape != (len(frames), len(names), 3) or not len(frames) == len(ids) == len(sides):
        raise ValueError(f"joints have shape {list(joints.shape)} for {len(frames)} rows of {len(names)} joints")
    if not all(isinstance(one, str) for one in (*frames, *sides)) or not all(type(one) is int for one in ids):
        raise TypeError("frames and hands are not names and numbers")
    return JointTable(path, frames, ids, sides, joints, names, _layout(about))
