# SPDX-License-Identifier: MIT
"""Files of joints in the formats that other tools read: text, CSV, JSON, .npz and Parquet."""

from __future__ import annotations

import csv
import io
import json
import math
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, TypeAlias, get_args

import numpy as np

from poseren_ext._utils.atomic_files import atomic_file
from poseren_ext.io.joint_layout import Joints

Format: TypeAlias = Literal["txt", "csv", "json", "npz", "parquet"]
FORMATS: tuple[Format, ...] = get_args(Format)
GROWING: tuple[Format, ...] = ("txt", "csv")
"""Formats that grow line by line; the others are written as a whole."""

CSV_COLUMNS = ("frame", "hand_id", "hand", "error_mm")
"""Columns of a CSV file before the coordinates."""

# Endings of other formats: refused, where an unknown ending means text.
_OTHERS = """
arrow avi bag bin bmp bvh bz2 c3d db exr fbx feather gif glb gltf gz h5 hdf hdf5 html ini jpeg jpg jsonl log mat mcap md
mkv mov mp4 msgpack ndjson npy obj ods onnx pb pcd pdf pickle pkl ply png pt pth pt2 safetensors sqlite svg tar tex
tfrecord tif tiff toml trc tsv usd usda usdz wav webm webp xls xlsx xml xz yaml yml zarr zip zst
"""


@dataclass(frozen=True)
class JointRows:
    """Joints of a number of frames, one row per hand, or for a frame without one.

    Attributes:
        frames: names of the frames.
        hand_ids: number of each hand in its frame, from 0.
        hands: "left" or "right", or "" where a frame has no result.
        error_mm: [N] predicted mean joint error, mm; NaN where it is not known.
        joints: [N, K, 3]; NaN where a joint or the result is missing.
    """

    frames: Sequence[str]
    hand_ids: Sequence[int]
    hands: Sequence[str]
    error_mm: Any
    joints: Joints

    def __iter__(self) -> Iterator[tuple[str, int, str, float, Any]]:
        return zip(self.frames, self.hand_ids, self.hands, map(float, self.error_mm), self.joints, strict=True)


def joint_rows(rows: Sequence[tuple[str, int, str, float, Any]], joints: int) -> JointRows:
    """Rows from the frame, hand id, side, predicted error and joints of each."""
    frames, hand_ids, hands, errors, values = zip(*rows, strict=True) if rows else ((), (), (), (), ())
    return JointRows(frames, hand_ids, hands, np.array(errors, np.float64), np.array(values).reshape(-1, joints, 3))


def format_of(path: str | os.PathLike[str], asked: Format | None = None) -> Format:
    """The format in which a file is written: the one that is asked for, or the one of its ending (default: txt).

    Raises:
        ValueError: the ending stands for a format that is not written, or for another one than was asked for.
    """
    ending = Path(path).suffix.lower().lstrip(".")
    if asked is not None and asked not in FORMATS:
        raise ValueError(f"format is {asked!r}; expected one of {', '.join(FORMATS)}")
    own = next((one for one in FORMATS if one == ending), None)
    if own is None and ending in _OTHERS.split():
        raise ValueError(f"{path}: .{ending} files are not written; expected one of .{', .'.join(FORMATS)}")
    if asked is not None and own is not None and asked != own:
        raise ValueError(f"{path}: the ending stands for {own}, but the format is {asked}; change one of them")
    return asked or own or "txt"


def require_format(name: Format) -> None:
    """Ask for a format's library before the work that the file is for.

    Raises:
        ModuleNotFoundError: The library is not installed.
    """
    if name == "parquet":
        try:
            import pyarrow.parquet  # noqa: F401
        except ModuleNotFoundError:
            raise ModuleNotFoundError("Parquet needs pyarrow: pip install 'poseren_ext[parquet]'") from None


def header_line(joints: Sequence[str], axes: str) -> str:
    """The first line of a CSV file."""
    return ",".join([*CSV_COLUMNS, *coordinate_names(joints, axes)]) + "\n"


def coordinate_names(joints: Sequence[str], axes: str) -> list[str]:
    """A name for each coordinate, such as "index_tip_x"."""
    return [f"{joint.replace(' ', '_')}_{axis}" for joint in joints for axis in axes]


def text_lines(name: Format, rows: JointRows, decimals: int) -> str:
    """Rows of a growing file: numbers alone (txt), or with `CSV_COLUMNS` before them (csv)."""
    numbers = [[_number(value, decimals) for value in row.reshape(-1).tolist()] for row in rows.joints]
    if name == "txt":
        return "".join(" ".join(row) + "\n" for row in numbers)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    for (frame, hand_id, hand, error, _), row in zip(rows, numbers, strict=True):
        cells = [_printable(frame), hand_id, hand, _number(error, 2), *row]
        writer.writerow(["" if cell == "nan" else cell for cell in cells])
    return text.getvalue()


def read_csv_rows(path: Path, joints: int) -> JointRows:
    """The rows of a CSV file that this module wrote.

    Raises:
        ValueError: The file has another format.
    """
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        rows = list(csv.reader(file))[1:]
    values = [[float(cell or "nan") for cell in row[3:]] for row in rows]
    return joint_rows(
        [(row[0], int(row[1]), row[2], value[0], value[1:]) for row, value in zip(rows, values, strict=True)], joints
    )


def save_rows(path: str | os.PathLike[str], name: Format, rows: JointRows, about: dict[str, Any]) -> None:
    """Write a whole file; one that exists is replaced.

    Args:
        path: the file.
        name: its format.
        rows: what it holds.
        about: the layout, as `JointLayout.describe` gives it, and more that JSON, .npz and Parquet keep.

    Raises:
        OSError: the file cannot be written; one that was there is unchanged.
        ModuleNotFoundError: the format's library is not installed.
    """
    require_format(name)
    with atomic_file(Path(path)) as file:
        write_rows(file, name, rows, about)


def write_rows(file: IO[bytes], name: Format, rows: JointRows, about: dict[str, Any]) -> None:
    """Write rows to an open binary file; arguments as in `save_rows`."""
    joints = about["joint_names"]
    if name in GROWING:
        decimals = 6 if "m" in about["units"] else 3
        head = header_line(joints, about["space"]) if name == "csv" else ""
        text = head + text_lines(name, rows, decimals)
        file.write(text.encode("utf-8", "surrogateescape"))
    elif name == "json":
        file.write((json.dumps({**about, "frames": list(_records(rows, about))}, indent=1) + "\n").encode())
    elif name == "npz":
        np.savez_compressed(
            file,
            joints=np.asarray(rows.joints, np.float32),
            frames=np.array(rows.frames, dtype=np.str_),
            hand_ids=np.array(rows.hand_ids, np.int64),
            hands=np.array(rows.hands, dtype=np.str_),
            error_mm=np.asarray(rows.error_mm, np.float32),
            joint_names=np.array(joints, dtype=np.str_),
            about=np.array(json.dumps(about)),
        )
    else:
        _write_parquet(file, rows, about)


def hand_record(frame: str, hand_id: int, hand: str, error_mm: float, joints: Any, decimals: int) -> dict[str, Any]:
    """One row as JSON has it: null for joints that are missing."""
    record: dict[str, Any] = {"frame": frame, "hand_id": hand_id}
    if hand:
        record["hand"] = hand
    if math.isfinite(error_mm):
        record["error_mm"] = round(error_mm, 2)
    if np.isnan(joints).all():
        return {**record, "joints": None}
    record["joints"] = [
        None if any(map(math.isnan, joint)) else [round(value, decimals) for value in joint]
        for joint in joints.tolist()
    ]
    return record


def _records(rows: JointRows, about: dict[str, Any]) -> Iterable[dict[str, Any]]:
    decimals = 6 if "m" in about["units"] else 3
    for row in rows:
        yield hand_record(*row, decimals)


def _write_parquet(file: IO[bytes], rows: JointRows, about: dict[str, Any]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = rows.joints.reshape(len(rows.joints), -1)
    columns: dict[str, Any] = {
        "frame": pa.array([frame.encode("utf-8", "replace").decode() for frame in rows.frames], pa.string()),
        "hand_id": pa.array(rows.hand_ids, pa.int64()),
        "hand": pa.array([hand or None for hand in rows.hands], pa.string()),
        "error_mm": pa.array(np.asarray(rows.error_mm, np.float64), from_pandas=True),
    }
    for index, column in enumerate(coordinate_names(about["joint_names"], about["space"])):
        columns[column] = pa.array(np.ascontiguousarray(numbers[:, index]), from_pandas=True)  # NaN: null
    pq.write_table(pa.table(columns).replace_schema_metadata({"poseren": json.dumps(about)}), file)


def _number(value: float, decimals: int) -> str:
    return f"{value:.{decimals}f}"


def _printable(name: str) -> str:
    """A frame's name without line breaks, which would look like the end of a row."""
    return name.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") if set(name) & set("\n\r") else name
