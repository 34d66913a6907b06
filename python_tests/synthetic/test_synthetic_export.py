# SPDX-License-Identifier: MIT
"""Synthetic frames as files: read back, they are the frames."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from poseren_ext.geometry.camera import Camera
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.io.pose_files import read_poses
from poseren_ext.plotting.contact_sheet import contact_sheet
from poseren_ext.synthetic import SyntheticHands
from poseren_ext.synthetic.export import export_frames

SMALL = Camera(240.0, 240.0, 160.0, 120.0, 320, 240)


@pytest.mark.parametrize("skeleton", ["nyu14", "icvl16", "msra21"])
def test_files_hold_the_frames(tmp_path: Path, skeleton: str) -> None:
    hands = SyntheticHands(4, "test", skeleton=skeleton, camera=SMALL)
    export_frames(hands, tmp_path, 18, first=5)
    expected = hands.frames(torch.arange(5, 23))
    names = (tmp_path / "list.txt").read_text().split()
    assert len(names) == 18
    for name, depth in zip(names, expected.depth, strict=True):
        stored = cv2.imread(str(tmp_path / name), cv2.IMREAD_UNCHANGED)
        assert stored.dtype == np.uint16
        assert np.abs(stored - depth.numpy()).max() <= 0.51
    labels = read_poses(tmp_path / "labels.txt", joints=SKELETONS[skeleton].num_joints, frames=18)
    assert np.abs(labels - expected.uvd.numpy()).max() < 2e-3
    assert np.abs(read_poses(tmp_path / "centers.txt", joints=1)[:, 0] - expected.center.numpy()).max() < 2e-3
    assert Camera.parse(",".join((tmp_path / "camera.txt").read_text().split())).fx == SMALL.fx


def test_nothing_to_export_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="at least one frame"):
        export_frames(SyntheticHands(4, camera=SMALL), tmp_path, 0)


def test_contact_sheet_is_a_picture(tmp_path: Path) -> None:
    contact_sheet(SyntheticHands(4), tmp_path / "sheet.png", 5)
    assert cv2.imread(str(tmp_path / "sheet.png")).std() > 10
