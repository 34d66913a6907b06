# SPDX-License-Identifier: MIT
import shutil

import cv2
import numpy as np
import pytest
from helpers.dataset_trees import (
    MSRA_CAMERA,
    as_first_icvl_release,
    draw,
    hands,
    hands17_tree,
    icvl_tree,
    msra_bin,
    msra_tree,
    nyu_encoded,
    nyu_tree,
)
from scipy.io import loadmat, savemat
from typer.testing import CliRunner

from poseren_ext.cli.data import data_app
from poseren_ext.datasets.base import DatasetError
from poseren_ext.datasets.check import check
from poseren_ext.datasets.msra import MSRA
from poseren_ext.datasets.nyu import NYU
from poseren_ext.datasets.packs.dataset import PackedDataset
from poseren_ext.datasets.packs.writer import write_pack
from poseren_ext.datasets.registry import DATASETS, detect

BUILDERS = {"nyu": nyu_tree, "icvl": icvl_tree, "msra": msra_tree, "hands17": hands17_tree}


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    root = tmp_path_factory.mktemp("check")
    for name, build in BUILDERS.items():
        build(root / name)
    return root


@pytest.fixture
def copied(trees, tmp_path):
    return lambda name: shutil.copytree(trees / name, tmp_path / name)


def texts(path, kind, **options):
    return [finding.text for finding in check(path, **options) if finding.kind == kind]


def only_fault(path, **options):
    faults = texts(path, "wrong", **options)
    assert len(faults) == 1, faults
    return faults[0]


def test_icvls_first_release_is_named(copied):
    root = copied("icvl")
    as_first_icvl_release(root)
    assert detect(root) == "icvl"
    assert all("first release (2014)" in fault for fault in texts(root, "wrong"))
    assert len(texts(root, "wrong")) == 2


@pytest.mark.parametrize("name", list(BUILDERS))
def test_a_sound_dataset(trees, name):
    assert detect(trees / name) == name
    assert texts(trees / name, "wrong") == []
    odd = texts(trees / name, "odd")
    assert all("the distributed split has" in text for text in odd)  # these trees are tiny
    read = [text for text in texts(trees / name, "found") if "frames read" in text]
    assert len(read) == (1 if name == "msra" else 2)
    assert any("behind the surface" in text for text in texts(trees / name, "found"))


def test_wrong_folder(trees, tmp_path):
    assert "no such folder" in only_fault(tmp_path / "nowhere")
    fault = only_fault(trees)
    assert "expected one of these in it: nyu: train/joint_data.mat" in fault
    assert "hands17 holds hands17: did you mean that?" in fault
    assert f"{trees / 'nyu'} holds nyu" in only_fault(trees / "nyu" / "train")
    assert "holds nyu; expected msra" in only_fault(trees / "nyu", dataset="msra")
    with pytest.raises(ValueError, match="dataset is 'nyu2'"):
        list(check(trees / "nyu", dataset="nyu2"))
    with pytest.raises(DatasetError, match="not a known dataset"):
        detect(tmp_path)


def test_missing_frames(copied):
    root = copied("nyu")
    (root / "train" / "depth_1_0000001.png").unlink()
    (root / "train" / "depth_1_0000003.png").unlink()
    fault = only_fault(root)
    assert "nyu train: 2 labelled frames are missing: train/depth_1_0000001.png, train/depth_1_0000003.png" in fault


def test_truncated_bin_and_png(copied):
    root = copied("msra")
    path = root / "P5" / "TIP" / "000000_depth.bin"
    path.write_bytes(path.read_bytes()[:-3])
    fault = only_fault(root)
    assert "msra all: 1 of 153 frames cannot be read" in fault
    assert "P5/TIP/000000_depth.bin" in fault
    root = copied("hands17")
    path = root / "training" / "images" / "image_D00000002.png"
    path.write_bytes(path.read_bytes()[:-30])
    assert "image_D00000002.png: a truncated PNG" in only_fault(root)


def test_another_count_than_the_labels(copied):
    root = copied("msra")
    extra = draw(hands(1, 21, 400)[0], MSRA_CAMERA, 0)
    (root / "P0" / "1" / "000001_depth.bin").write_bytes(msra_bin(extra))
    assert "msra all: 1 frames have no label: P0/1/000001_depth.bin" in only_fault(root)
    (root / "P8" / "Y" / "joint.txt").unlink()
    assert "P8/Y/joint.txt: no such file" in only_fault(root)
    root = copied("icvl")
    labels = root / "Testing" / "test_seq_2.txt"
    labels.write_text("\n".join(labels.read_text().splitlines()[:-2]))
    assert "icvl test: 1 frames have no label: test_seq_2/image_0002.png" in only_fault(root)


@pytest.mark.parametrize("count", [76375, 76391])
def test_msra_says_which_version(trees, count, monkeypatch):
    root = trees / "msra"
    opened = MSRA(root, "all")
    repeat = -(-count // len(opened))

    def of_that_size(folder, split, **options):
        opened.names, opened.uvd = (opened.names * repeat)[:count], np.tile(opened.uvd, (repeat, 1, 1))[:count]
        return opened

    of_that_size.info = MSRA.info
    monkeypatch.setitem(DATASETS, "msra", of_that_size)
    found = texts(root, "found", quick=True)
    which = "smaller" if count == 76375 else "larger"
    assert any(f"{count} labelled frames, the {which} of the two" in text for text in found)
    assert any("3 frames read" in text for text in found)


def test_labels_with_a_wrong_sign(copied):
    root = copied("nyu")
    path = root / "test" / "joint_data.mat"
    content = loadmat(path)
    flipped = content["joint_uvd"].copy()
    flipped[..., 1] = 480 - flipped[..., 1]  # a label file with v upwards
    savemat(path, {"joint_uvd": flipped, "joint_xyz": content["joint_xyz"]})
    assert any("joint_uvd and joint_xyz differ" in text for text in texts(root, "odd"))
    assert "behind the surface" in only_fault(root)
    savemat(path, {"joint_uvd": content["joint_uvd"] * [1, 1, 0.001], "joint_xyz": content["joint_xyz"]})
    assert any("metres" in text for text in texts(root, "wrong"))


def test_frames_without_a_center(copied):
    root = copied("nyu")
    empty = np.zeros((480, 640), np.uint16)
    assert cv2.imwrite(str(root / "test" / "synthdepth_1_0000002.png"), nyu_encoded(empty))
    (root / "test" / "synthdepth_1_0000003.png").unlink()
    (odd,) = [text for text in texts(root, "odd") if "centre" in text]
    assert "nyu test: 2 frames have no centre" in odd
    assert "no pixel between 500 and 1300 mm" in odd
    assert "synthdepth_1_0000003.png: no such file" in odd


def test_packs(trees, tmp_path):
    path = tmp_path / "nyu.pack"
    write_pack(NYU(trees / "nyu"), path, split="train")
    assert texts(path, "wrong") == []
    assert "a pack of nyu train, 3 frames" in texts(path, "found")[0]
    content = bytearray(path.read_bytes())
    content[16384 + 100] ^= 1
    path.write_bytes(content)
    assert "1 frames do not match their checksums: 0 (train/depth_1_0000001.png)" in only_fault(path)
    path.write_bytes(content[:-1])
    assert "truncated or damaged" in only_fault(path)


def run(*arguments):
    return CliRunner().invoke(data_app, [str(argument) for argument in arguments])


def test_command_line(copied, tmp_path):
    root = copied("nyu")
    result = run("check", root)
    assert result.exit_code == 0, result.output
    assert "OK       nyu train: 3 frames read" in result.output
    result = run("pack", root, tmp_path / "out.pack", "--split", "test", "--workers", 0)
    assert result.exit_code == 0, result.output
    assert "3 frames" in result.output
    assert PackedDataset(tmp_path / "out.pack").info.split == "test"
    assert run("check", tmp_path / "out.pack").exit_code == 0
    (root / "test" / "depth_1_0000002.png").unlink()
    result = run("check", root)
    assert result.exit_code == 1
    assert "ERROR    nyu test: 1 labelled frames are missing" in result.output
    np.savetxt(tmp_path / "centers.txt", [[300, 200, 700]] * 3)
    result = run(
        "pack", root, tmp_path / "train.pack", "--dataset", "nyu", "--centers", tmp_path / "centers.txt", "--workers", 0
    )
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(PackedDataset(tmp_path / "train.pack").centers[1], [300, 200, 700])


def test_command_line_packs_msra_without_a_subject(trees, tmp_path):
    result = run("pack", trees / "msra", tmp_path / "msra.pack", "--split", "test", "--subject", 7, "--workers", 0)
    assert result.exit_code == 0, result.output
    pack = PackedDataset(tmp_path / "msra.pack")
    assert (set(pack.subjects), pack.info.split, len(pack)) == ({"P7"}, "test 7", 17)
    assert run("pack", trees / "nyu", tmp_path / "x.pack", "--dataset", "other").exit_code == 2
