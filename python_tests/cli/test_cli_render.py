# SPDX-License-Identifier: MIT
import cv2
import numpy as np
import pytest

from poseren_ext.io.depth_files import find_frames
from poseren_ext.io.pose_files import read_poses
from poseren_ext.synthetic import SyntheticHands


@pytest.fixture
def run(poseren):
    return lambda *arguments: poseren("render", *arguments, "--camera", "icvl")


def test_a_folder_and_an_archive_hold_the_same(run, tmp_path):
    code, out, err = run(tmp_path / "hands", "--frames", 3, "--first", 2, "--skeleton", "icvl16")
    assert (code, out) == (0, "")
    assert "3 frames in" in err
    assert run(tmp_path / "hands.npz", "--frames", 3, "--first", 2, "--skeleton", "icvl16")[0] == 0
    stack = np.load(tmp_path / "hands.npz")
    assert stack["depth"].shape == (3, 240, 320)
    assert stack["joints"][0] == "palm"
    files = find_frames([tmp_path / "hands" / "depth"])
    for file, depth in zip(files, stack["depth"], strict=True):
        np.testing.assert_array_equal(file.read(), depth)
    labels = read_poses(tmp_path / "hands" / "labels.txt", joints=16, frames=3)
    np.testing.assert_allclose(labels, stack["uvd"], atol=6e-4)
    assert len(find_frames([tmp_path / "hands.npz"])) == 3


def test_a_contact_sheet(run, tmp_path):
    assert run(tmp_path / "sheet.png", "--frames", 8)[0] == 0
    assert cv2.imread(str(tmp_path / "sheet.png")).std() > 10


def test_a_sequence_moves_one_hand(run, tmp_path):
    assert run(tmp_path / "moving.npz", "--sequence", "--frames", 3)[0] == 0
    xyz = np.load(tmp_path / "moving.npz")["xyz"]
    steps = np.linalg.norm(np.diff(xyz, axis=0), axis=-1)
    assert 0 < steps.mean() < 30


def test_interrupted_frames_have_their_labels(run, tmp_path, monkeypatch):
    from poseren_ext.synthetic import export

    monkeypatch.setattr(export, "_BATCH", 2)
    frames, calls = SyntheticHands.frames, []

    def interrupted(self, index):
        calls.append(index)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return frames(self, index)

    monkeypatch.setattr(SyntheticHands, "frames", interrupted)
    assert run(tmp_path / "hands", "--frames", 4)[0] == 130
    assert len(find_frames([tmp_path / "hands" / "depth"])) == 2
    assert len(read_poses(tmp_path / "hands" / "labels.txt")) == 2


def test_a_rendered_folder_is_replaced_only_when_asked(run, tmp_path):
    assert run(tmp_path / "hands", "--frames", 3)[0] == 0
    assert run(tmp_path / "hands", "--frames", 1)[0] == 1
    assert run(tmp_path / "hands", "--frames", 1, "--overwrite")[0] == 0
    assert [path.name for path in (tmp_path / "hands" / "depth").iterdir()] == ["000000.png"]


def test_bad_input(run, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").touch()
    assert run(tmp_path / "a", "--frames", 0)[0] == 2
    assert run(tmp_path / "a", "--skeleton", "cat")[0] == 2
    assert run(tmp_path / "a", "--split", "all")[0] == 2
    for arguments, message in (
        ((tmp_path / "full",), "is not empty"),
        ((tmp_path / "full", "--overwrite"), "holds x, which `poseren render` did not write"),
        ((tmp_path / "full" / "x",), "is a file"),
        ((tmp_path / "no" / "a.npz",), "there is no folder"),
        ((tmp_path / "no" / "a.png",), "there is no folder"),
    ):
        code, out, err = run(*arguments, "--frames", 1)
        assert (code, out) == (1, "")
        assert message in err
        assert err.count("\n") == 1


def test_a_test_split_has_fixed_subjects_and_seed(run, tmp_path):
    assert run(tmp_path / "backs.npz", "--frames", 2, "--split-kind", "back")[0] == 0
    stack = np.load(tmp_path / "backs.npz")
    wrist, index, pinky = (stack["xyz"][:, joint] for joint in (0, 1, 13))
    normal = np.cross(index - wrist, pinky - wrist)  # out of a right hand's palm
    assert (np.einsum("bi,bi->b", normal, wrist) > 0).all()  # away from the camera
    code, _, err = run(tmp_path / "other.npz", "--split-kind", "back", "--seed", 3)
    assert code == 2
    assert "--split-kind excludes it" in err
