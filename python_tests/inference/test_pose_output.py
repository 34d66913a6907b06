# SPDX-License-Identifier: MIT
"""HandPose for other tools: orders, dictionaries and files, with and without a batch axis, NumPy and torch."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import torch

from poseren_ext.geometry.joint_orders import ORDERS, in_order
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.inference.hand_pose import HandPose
from poseren_ext.io.joint_layout import JointLayout
from poseren_ext.io.pose_files import read_poses

MSRA = SKELETONS["msra21"]


def pose(kind: type = np.ndarray, batch: tuple[int, ...] = (2,), skeleton: str = "msra21") -> HandPose:
    count = SKELETONS[skeleton].num_joints
    generator = torch.Generator().manual_seed(0)
    joints = torch.randn(*batch, count, 3, generator=generator) * 50 + torch.tensor([10.0, 20.0, 600.0])
    uvd = torch.randn(*batch, count, 3, generator=generator) * 50 + torch.tensor([320.0, 240.0, 600.0])
    arrays = [joints, uvd, uvd[..., 0, :], torch.ones(batch)]
    if kind is np.ndarray:
        arrays = [array.numpy() for array in arrays]
    hands = ("right",) * (batch[0] if batch else 1)
    return HandPose(arrays[0], arrays[1], arrays[2], None, arrays[3], hands, SKELETONS[skeleton])


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kind", [np.ndarray, torch.Tensor])
@pytest.mark.parametrize("batch", [(), (2,)])
def test_joints_in_every_order(order, kind, batch):
    one = pose(kind, batch)
    joints = one.in_order(order)
    assert isinstance(joints, kind)
    np.testing.assert_array_equal(joints, in_order(one.joints, MSRA, order))
    metres = one.in_order(order, JointLayout("xyz", "m"))
    np.testing.assert_allclose(metres, np.asarray(joints) / 1000, rtol=1e-6)


@pytest.mark.parametrize("batch", [(), (3,)])
def test_a_dictionary_survives_json(batch):
    one = pose(batch=batch)
    content = json.loads(json.dumps(one.to_dict()))
    assert content["joint_names"] == list(MSRA.joints)
    assert (content["units"], content["coordinate_frame"]) == (["mm"] * 3, "camera")
    joints = [frame["joints"] for frame in content["frames"]]
    np.testing.assert_allclose(joints, one.joints.reshape(-1, 21, 3), atol=1e-3)
    assert [frame["hand"] for frame in content["frames"]] == list(one.hand)


def test_missing_joints_are_none_and_named():
    content = pose().to_dict(JointLayout("xyz", order="openxr26"))
    assert content["missing_joints"][0] == "palm"
    assert content["frames"][0]["joints"][0] is None
    assert content["frames"][0]["joints"][1] is not None


def test_text_files_hold_uvd_that_eval_reads(tmp_path):
    one = pose()
    one.save(tmp_path / "a.txt")
    np.testing.assert_allclose(read_poses(tmp_path / "a.txt", joints=21), one.uvd, atol=6e-4)


def test_csv_files_name_frames_and_joints(tmp_path):
    one = pose()
    one.save(tmp_path / "a.csv", frames=["x, y.png", "z.png"])
    with (tmp_path / "a.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["frame"] for row in rows] == ["x, y.png", "z.png"]
    assert float(rows[1]["thumb_tip_z"]) == pytest.approx(float(one.joints[1, 20, 2]), abs=1e-3)


@pytest.mark.parametrize("ending", ["txt", "csv", "json", "npz", "parquet"])
def test_files_are_not_replaced_unasked(tmp_path, ending):
    path = tmp_path / f"a.{ending}"
    pose().save(path)
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True replaces it"):
        pose(batch=(3,)).save(path)
    assert path.read_bytes() == before
    pose(batch=(3,)).save(path, overwrite=True)
    assert path.read_bytes() != before


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda one, folder: one.save(folder / "a.xlsx"), r"\.xlsx files are not written"),
        (lambda one, folder: one.save(folder / "a.csv", file_format="json"), "the ending stands for csv"),
        (lambda one, folder: one.save(folder / "a.csv", frames=["one"]), "1 names; expected one for each of 2"),
        (lambda one, folder: one.in_order("coco"), "joint order 'coco' is unknown"),
        (lambda one, folder: one.to_dict(JointLayout("uvd", "m")), "uvd is in pixels and mm"),
        (lambda one, folder: one.to_dict(JointLayout("xyz", frame="world")), "the frame 'world' alone"),
        (lambda one, folder: one.to_dict(JointLayout("xyz", extrinsics=np.eye(4))), "extrinsics without"),
        (lambda one, folder: one.to_dict(JointLayout("cm")), "space is 'cm'; expected one of uvd, xyz"),
        (lambda one, folder: pose(skeleton="nyu14").to_dict(JointLayout("xyz", frame="palm")), "nyu14 does not have"),
        (lambda one, folder: JointLayout("xyz", frame="world", extrinsics=np.eye(3)), r"expected a finite matrix"),
        (lambda one, folder: JointLayout("xyz", frame="world", extrinsics=2 * np.eye(4)), "not a rotation"),
        (lambda one, folder: JointLayout("xyz", frame="world", extrinsics=-np.eye(4)), "not a rotation"),
    ],
)
def test_refusals(call, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        call(pose(), tmp_path)
    assert not list(tmp_path.iterdir())


def test_world_coordinates_of_tensors_and_arrays():
    rotation = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)
    matrix = np.block([[rotation, np.array([[1.0], [2.0], [3.0]])], [np.zeros((1, 3)), np.ones((1, 1))]])
    layout = JointLayout("xyz", "m", "world", extrinsics=matrix)
    for kind in (np.ndarray, torch.Tensor):
        one = pose(kind)
        world = one.in_order("msra21", layout)
        expected = np.asarray(one.joints) / 1000 @ rotation.T + [1, 2, 3]
        np.testing.assert_allclose(world, expected, atol=1e-6)
        assert world.dtype == one.joints.dtype
