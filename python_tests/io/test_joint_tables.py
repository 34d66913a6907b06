# SPDX-License-Identifier: MIT
"""Files of joints are read as they were written; damaged ones are refused by name."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from poseren_ext.geometry.camera import Camera, uvd_to_xyz
from poseren_ext.io import joint_tables
from poseren_ext.io.joint_files import Format, joint_rows, save_rows
from poseren_ext.io.joint_tables import JointTableError, read_joint_table

CAMERA = Camera(238, 238, 159.5, 119.5, 320, 240)
JOINTS = np.array([[[10.0, -20.0, 400.0], [0.0, 5.0, 420.0]], [[np.nan] * 3] * 2, [[1.0, 2.0, 500.0], [np.nan] * 3]])
ABOUT: dict[str, Any] = {
    "joint_names": ["palm", "index tip"],
    "space": "xyz",
    "units": ["mm"] * 3,
    "coordinate_frame": "camera",
}
FORMATS: tuple[Format, ...] = ("csv", "json", "npz", "parquet")


def written(folder: Path, file_format: Format, **changes: Any) -> Path:
    path = folder / f"joints.{file_format}"
    rows = [
        ("a.png", 0, "left", 7.5, JOINTS[0]),
        ("b.png", 0, "", np.nan, JOINTS[1]),
        ("c.png", 1, "right", 3, JOINTS[2]),
    ]
    save_rows(path, file_format, joint_rows(rows, 2), {**ABOUT, **changes})
    return path


@pytest.mark.parametrize("file_format", FORMATS)
def test_what_was_written_is_read(tmp_path: Path, file_format: Format) -> None:
    table = read_joint_table(written(tmp_path, file_format))
    assert (list(table.frames), list(table.hand_ids)) == (["a.png", "b.png", "c.png"], [0, 0, 1])
    assert (list(table.sides), table.names) == (["left", "", "right"], ("palm", "index tip"))
    np.testing.assert_array_equal(table.joints, JOINTS)
    np.testing.assert_array_equal(table.xyz(["index tip"], CAMERA)[0], [[0, 5, 420]])
    back = uvd_to_xyz(table.uvd(["index tip", "palm"], CAMERA), CAMERA, check=False)
    np.testing.assert_allclose(back[0], JOINTS[0, ::-1], atol=1e-4)
    np.testing.assert_array_equal(np.isnan(back[2]), [[True] * 3, [False] * 3])


def json_with(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = written(folder, "json")
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))
        return path

    return write


def npz_with(**changes: Any) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = written(folder, "npz")
        with np.load(path) as archive:
            held = {name: archive[name] for name in archive.files} | changes
        np.savez(path, **{name: value for name, value in held.items() if value is not None})
        return path

    return write


def npz_without_header(name: str) -> Callable[[Path], Path]:
    """A member that NumPy reads as bytes."""

    def write(folder: Path) -> Path:
        path = written(folder, "npz")
        with zipfile.ZipFile(path) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
        members[f"{name}.npy"] = members[f"{name}.npy"][1:]
        with zipfile.ZipFile(path, "w") as archive:
            for member, content in members.items():
                archive.writestr(member, content)
        return path

    return write


def cut(file_format: Format) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = written(folder, file_format)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        return path

    return write


def bare_parquet(folder: Path) -> Path:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"frame": ["a"]}), folder / "joints.parquet")
    return folder / "joints.parquet"


@pytest.mark.parametrize(
    ("write", "message"),
    [
        (cut("json"), "expected a file of joints"),
        (cut("npz"), "expected a file of joints"),
        (cut("parquet"), "expected a file of joints"),
        (bare_parquet, "no b'poseren'"),
        (json_with(lambda content: content.pop("units")), "no 'units'"),
        (
            json_with(lambda content: content.update(units=["cm"] * 3)),
            "joints as xyz in .'cm', 'cm', 'cm'. of",
        ),
        (json_with(lambda content: content.update(coordinate_frame="moon")), "of the moon"),
        (json_with(lambda content: content.update(coordinate_frame="world")), "no 'extrinsics'"),
        (json_with(lambda content: content.update(joint_names=[1, 2])), "joint_names is not a list of names"),
        (json_with(lambda content: content["frames"][0]["joints"].pop()), "expected a file of joints"),
        (json_with(lambda content: content["frames"][0]["joints"].append("x")), "expected a file of joints"),
        (json_with(lambda content: content["frames"][0].update(frame=3)), "not names and numbers"),
        (json_with(lambda content: content["frames"].append([])), "expected a file of joints"),
        (npz_with(joints=np.zeros((3, 3, 3))), "shape .3, 3, 3. for 3 rows of 2 joints"),
        (npz_with(frames=np.array(["a"])), "for 1 rows of 2 joints"),
        (npz_with(hands=None), "hands"),
        (npz_without_header("joints"), "joints is no array"),
        (npz_with(frames=np.array([2**31 - 1] * 3, "<u4").view("<U1")), "invalid maximum character"),
        (npz_with(about=np.array("{")), "expected a file of joints"),
    ],
)
def test_damaged_files_are_refused_by_name(tmp_path: Path, write: Callable[[Path], Path], message: str) -> None:
    path = write(tmp_path)
    with pytest.raises(JointTableError, match=message) as caught:
        read_joint_table(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("file_format", ["json", "npz", "parquet"])
def test_files_too_large_to_read_as_a_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: Format
) -> None:
    path = written(tmp_path, file_format)
    monkeypatch.setattr(joint_tables, "MAX_FILE_BYTES", 20)
    with pytest.raises(JointTableError, match="expected at most 20: split it"):
        read_joint_table(path)


@pytest.mark.parametrize("file_format", ["npz", "parquet"])
def test_what_is_too_large_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_format: Format) -> None:
    path = tmp_path / f"joints.{file_format}"
    rows = joint_rows([("a", 0, "", np.nan, np.zeros((2, 3)))] * 20_000, 2)
    save_rows(path, file_format, rows, ABOUT)
    monkeypatch.setattr(joint_tables, "MAX_FILE_BYTES", path.stat().st_size)
    with pytest.raises(JointTableError, match="bytes unpacked; expected at most"):
        read_joint_table(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    for ending in FORMATS:
        with pytest.raises(FileNotFoundError, match=f"joints.{ending}: no such file"):
            read_joint_table(tmp_path / f"joints.{ending}")


@pytest.mark.parametrize("record", [b"{", b"[]", b'{"layout": {"space": "uvd"}}', b'{"layout": {"space": "xyz"}}'])
def test_a_record_of_another_file_does_not_count(tmp_path: Path, record: bytes) -> None:
    path = written(tmp_path, "csv")
    path.with_name("joints.csv.json").write_bytes(record)
    assert read_joint_table(path).layout == {name: ABOUT[name] for name in ("space", "units", "coordinate_frame")}


def test_joints_behind_the_camera_are_refused(tmp_path: Path) -> None:
    matrix = np.diag([1.0, -1, -1, 1]).tolist()
    table = read_joint_table(written(tmp_path, "json", coordinate_frame="world", extrinsics=matrix))
    with pytest.raises(JointTableError, match=r"3 joints lie behind the camera"):
        table.xyz(["palm", "index tip"], CAMERA)
