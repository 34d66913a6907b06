# SPDX-License-Identifier: MIT
import pickle
import shutil

import cv2
import numpy as np
import pytest
import torch
from helpers.dataset_trees import (
    as_first_icvl_release,
    hands17_tree,
    icvl_tree,
    msra_tree,
    nyu_encoded,
    nyu_tree,
    project,
)
from helpers.published_data import PUBLISHED, needs_published_data
from torch.utils.data import DataLoader

from poseren_ext.datasets.base import DatasetError
from poseren_ext.datasets.hands17 import HANDS17
from poseren_ext.datasets.icvl import ICVL
from poseren_ext.datasets.msra import MSRA
from poseren_ext.datasets.nyu import NYU
from poseren_ext.datasets.sample import collate
from poseren_ext.geometry.camera import CAMERAS, uvd_to_xyz, xyz_to_uvd
from poseren_ext.io.depth_files import FrameError


@pytest.fixture(scope="module")
def trees(tmp_path_factory):
    """Root folder and true joints of every dataset; tests that damage something copy first."""
    root = tmp_path_factory.mktemp("datasets")
    builders = {"nyu": nyu_tree, "icvl": icvl_tree, "msra": msra_tree, "hands17": hands17_tree}
    return {name: (root / name, build(root / name)) for name, build in builders.items()}


@pytest.fixture
def copied(trees, tmp_path):
    """Copies one dataset to damage it."""

    def copy(name):
        return shutil.copytree(trees[name][0], tmp_path / name)

    return copy


def assert_joints_on_surface(sample):
    """Every joint in mm projects onto a pixel 8 mm (or, where discs overlap, more) in front of it."""
    x, y, z = sample.xyz.numpy().T
    camera = sample.camera
    column = np.rint(x * camera.fx / z + camera.cx).astype(int)
    row = np.rint(y * camera.fy / z + camera.cy).astype(int)
    surface = sample.depth.numpy()[row, column].astype(float)
    assert (surface > 0).all()
    assert (surface <= z - 7).all()
    assert np.median(z - surface) < 9
    torch.testing.assert_close(xyz_to_uvd(sample.xyz, camera), sample.uvd, atol=1e-3, rtol=0)


def everything(trees):
    return {
        "nyu": (NYU(trees["nyu"][0], "test"), trees["nyu"][1]["test"]),
        "icvl": (ICVL(trees["icvl"][0], "train"), trees["icvl"][1]["Training/labels.txt"]),
        "msra": (
            MSRA(trees["msra"][0], "test", subject=3),
            np.concatenate([joints for (subject, _), joints in trees["msra"][1].items() if subject == "P3"]),
        ),
        "hands17": (HANDS17(trees["hands17"][0], "train"), trees["hands17"][1]),
    }


@pytest.mark.parametrize("name", ["nyu", "icvl", "msra", "hands17"])
def test_labels_are_where_the_surface_is(trees, name):
    dataset, xyz = everything(trees)[name]
    assert len(dataset) == len(xyz)
    for index in range(len(dataset)):
        sample = dataset[index]
        np.testing.assert_allclose(sample.xyz.numpy(), xyz[index], atol=5e-3)  # the files' three decimals
        assert (sample.camera, sample.hand, sample.index) == (CAMERAS[name], dataset.skeleton.hand, index)
        assert sample.depth.dtype == (torch.float32 if name == "msra" else torch.uint16)
        assert_joints_on_surface(sample)


@pytest.mark.parametrize("name", ["nyu", "icvl", "msra", "hands17"])
def test_center_of_the_image_is_in_the_hand(trees, name):
    dataset, xyz = everything(trees)[name]
    for index in range(len(dataset)):
        center = uvd_to_xyz(dataset[index].center.double(), dataset.camera).numpy()
        assert np.linalg.norm(center - xyz[index].mean(0)) < 25


@pytest.mark.parametrize("name", ["nyu", "icvl", "msra", "hands17"])
def test_mirrored_frames_are_a_mirror(trees, name):
    dataset, _ = everything(trees)[name]
    sample = dataset[1]
    dataset.hand = "left" if dataset.hand == "right" else "right"
    mirrored = dataset[1]
    assert mirrored.hand != sample.hand
    assert_joints_on_surface(mirrored)
    torch.testing.assert_close(mirrored.xyz[:, 0], -sample.xyz[:, 0])
    torch.testing.assert_close(mirrored.xyz[:, 1:], sample.xyz[:, 1:])
    back = mirrored.mirrored()
    torch.testing.assert_close(back.center, sample.center)
    torch.testing.assert_close(back.uvd, sample.uvd)
    assert torch.equal(back.depth, sample.depth)
    assert back.camera.cx == pytest.approx(sample.camera.cx)


def test_official_splits_and_names(trees):
    nyu = NYU(trees["nyu"][0], "train")
    assert nyu.names[0] == "train/depth_1_0000001.png"
    icvl = ICVL(trees["icvl"][0], "test")
    assert icvl.names == [f"test_seq_1/image_000{i}.png" for i in (0, 1)] + [
        f"test_seq_2/image_000{i}.png" for i in (0, 1, 2)
    ]
    assert icvl.subjects[1:3] == ["test_seq_1", "test_seq_2"]
    assert len(ICVL(trees["icvl"][0] / "Testing", "test")) == 5
    assert len(ICVL(trees["icvl"][0], "train")) == 3
    assert ICVL(trees["icvl"][0], "train", rotated=False).names == [
        "201403121135/image_0000.png",
        "201403121135/image_0001.png",
    ]
    msra = MSRA(trees["msra"][0], "train", subject=3)
    assert len(msra) == 8 * 17
    assert "P3" not in msra.subjects
    assert set(MSRA(trees["msra"][0], "test", subject=3).subjects) == {"P3"}
    assert len(MSRA(trees["msra"][0], "all")) == 9 * 17


def test_hands17_test_frames_have_boxes_and_no_labels(trees):
    root, xyz = trees["hands17"]
    dataset = HANDS17(root, "test")
    sample = dataset[2]
    assert sample.xyz.isnan().all()
    assert sample.uvd.isnan().all()
    center = uvd_to_xyz(sample.center, dataset.camera).numpy()
    assert np.linalg.norm(center - xyz[2].mean(0)) < 25  # and not halfway to the other object
    with pytest.raises(ValueError, match="boxes is 'corner'; expected one of corners, size"):
        HANDS17(root, "test", boxes="corner")


def test_hands17_boxes_of_the_other_kind(copied):
    root = copied("hands17")
    path = root / "frame" / "BoundingBox.txt"
    corners = HANDS17(root, "test").boxes
    rows = [line.split() for line in path.read_text().splitlines()]
    sizes = [
        [name, *(f"{v:.3f}" for v in (left, top, right - left, bottom - top))]
        for (name, *_), (left, top, right, bottom) in zip(rows, corners, strict=True)
    ]
    path.write_text("\n".join(" ".join(row) for row in sizes) + "\n")
    np.testing.assert_allclose(HANDS17(root, "test", boxes="size").boxes, corners, atol=1e-2)
    with pytest.raises(DatasetError, match=r"BoundingBox.txt.*boxes='size'"):
        HANDS17(root, "test")


def test_centers_from_file_and_array(trees, tmp_path):
    root, _ = trees["nyu"]
    centers = np.array([[300.5, 200.25, 700], [301, 201, 701], [302, 202, 702]], np.float32)
    np.savetxt(tmp_path / "centers.txt", centers, "%.3f")
    for given in (tmp_path / "centers.txt", centers, torch.from_numpy(centers), centers.astype(float)):
        torch.testing.assert_close(NYU(root, "test", centers=given)[1].center, torch.tensor([301.0, 201, 701]))
    with pytest.raises(ValueError, match=r"centers.txt: 3 lines; the labels have 5"):
        ICVL(trees["icvl"][0], "test", centers=tmp_path / "centers.txt")
    with pytest.raises(FileNotFoundError, match=r"nowhere\.txt"):
        NYU(root, "test", centers=tmp_path / "nowhere.txt")
    with pytest.raises(ValueError, match=r"\[2, 3\]; expected \[3, 3\]"):
        NYU(root, "test", centers=centers[:2])
    with pytest.raises(ValueError, match=r"centre of frame 1 is .*positive depth"):
        NYU(root, "test", centers=centers * [[1, 1, 1], [1, 1, -1], [1, 1, 1]])
    with pytest.raises(ValueError, match="'image'"):
        NYU(root, "test", centers="centers.txt")
    with pytest.raises(TypeError, match="list"):
        NYU(root, "test", centers=centers.tolist())


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_loader_workers(trees, context):
    dataset = NYU(trees["nyu"][0], "test")
    loader = DataLoader(dataset, 2, num_workers=1, multiprocessing_context=context, collate_fn=collate)
    batches = list(loader)
    assert [batch.depth.shape[0] for batch in batches] == [2, 1]
    assert batches[0].depth.dtype == torch.uint16
    assert torch.equal(batches[1].depth[0], dataset[2].depth)
    assert batches[0].names == tuple(dataset.names[:2])
    torch.testing.assert_close(batches[0].camera[1], CAMERAS["nyu"].tensor())
    assert torch.equal(pickle.loads(pickle.dumps(dataset))[2].depth, dataset[2].depth)


def test_wrong_folder(tmp_path):
    for open_dataset, expected in (
        (NYU, "train/joint_data.mat"),
        (ICVL, "Training/labels.txt"),
        (MSRA, "P1/1/joint.txt"),
        (HANDS17, "training/Training_Annotation.txt"),
    ):
        with pytest.raises(FileNotFoundError, match=f"{expected}: no such file; expected .*folder"):
            open_dataset(tmp_path)
    for open_dataset in (NYU, ICVL, MSRA, HANDS17):
        with pytest.raises(ValueError, match="split is 'val'; expected one of train"):
            open_dataset(tmp_path, "val")


def test_missing_frame(copied):
    root = copied("nyu")
    (root / "test" / "depth_1_0000002.png").unlink()
    with pytest.raises(
        FileNotFoundError, match=r"depth_1_0000002.png: no such file, but .*joint_data.mat has a label for it; 1 of 3"
    ):
        NYU(root, "test")
    lenient = NYU(root, "test", strict=False)
    assert len(lenient) == 3
    lenient[0]
    with pytest.raises(FileNotFoundError, match=r"depth_1_0000002\.png"):
        lenient[1]


def test_frame_without_label(copied):
    root = copied("icvl")
    folder = root / "Testing" / "Depth" / "test_seq_2"
    shutil.copy(folder / "image_0000.png", folder / "image_0003.png")
    with pytest.raises(
        DatasetError,
        match=r"image_0003.png: a frame without a label in .*test_seq_2.txt; there are 5 labels for 6 frames",
    ):
        ICVL(root, "test")
    assert len(ICVL(root, "test", strict=False)) == 5


@pytest.mark.parametrize("split", ["train", "test"])
def test_icvls_first_release_is_refused_by_name(copied, split):
    root = copied("icvl")
    as_first_icvl_release(root)
    with pytest.raises(DatasetError, match=r"train\.txt: .*first release \(2014\).*expected the second .*labels\.txt"):
        ICVL(root, split)
    (root / "train.txt").rename(root / "labels.txt")  # the second release, all in one folder
    assert len(ICVL(root, split)) == {"train": 3, "test": 5}[split]


def test_msra_counts(copied):
    root = copied("msra")
    (root / "P4" / "IP" / "000001_depth.bin").write_bytes((root / "P4" / "IP" / "000000_depth.bin").read_bytes())
    with pytest.raises(DatasetError, match=r"P4/IP/000001_depth.bin: a frame without a label in .*P4/IP/joint.txt"):
        MSRA(root, "test", subject=4)
    text = (root / "P4" / "I" / "joint.txt").read_text()
    (root / "P4" / "I" / "joint.txt").write_text("2" + text[1:])
    with pytest.raises(DatasetError, match=r"P4/I/joint.txt: 1 lines of joints, but its first line says 2"):
        MSRA(root, "test", subject=4)
    (root / "P4" / "I" / "joint.txt").write_text("1\n1.0\n")
    with pytest.raises(DatasetError, match=r"P4/I/joint.txt, line 2: 1 values; expected 63 numbers"):
        MSRA(root, "test", subject=4)
    (root / "P4" / "I" / "joint.txt").write_text("1\n" + text.splitlines()[1].replace("-", ""))
    with pytest.raises(DatasetError, match=r"joint.txt, line 2: a joint is behind the camera"):
        MSRA(root, "test", subject=4)


@pytest.mark.parametrize("cut", [20, 24, 100, -1])
def test_truncated_frames(copied, cut):
    root = copied("msra")
    path = root / "P0" / "1" / "000000_depth.bin"
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(FrameError, match=r"000000_depth.bin: \d+ bytes"):
        MSRA(root, "test")[0]


def test_truncated_png_and_wrong_size(copied):
    root = copied("nyu")
    path = root / "test" / "depth_1_0000001.png"
    path.write_bytes(path.read_bytes()[:-200])
    dataset = NYU(root, "test")
    with pytest.raises(FrameError, match=r"depth_1_0000001.png: a truncated PNG"):
        dataset[0]
    cv2.imwrite(str(path), nyu_encoded(np.full((240, 320), 700, np.uint16)))
    with pytest.raises(DatasetError, match=r"depth_1_0000001.png: 320x240 pixels; frames of nyu have 640x480"):
        dataset[0]
    (root / "test" / "synthdepth_1_0000002.png").unlink()
    with pytest.raises(FileNotFoundError, match=r"synthdepth_1_0000002.png: .*give centres"):
        dataset[1]
    cv2.imwrite(str(root / "test" / "synthdepth_1_0000003.png"), nyu_encoded(np.zeros((480, 640), np.uint16)))
    with pytest.raises(DatasetError, match=r"depth_1_0000003.png: no pixel between 500 and 1300 mm"):
        dataset[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("test_seq_1/image_0000.png 1 2 3\n", "line 1: 3 values"),
        ("test_seq_1/image_0000.png\n", "line 1: no values"),
        ("\n\na " + "1 " * 47 + "x\n", "line 3, value 48: 'x' is not a number"),
        ("a " + "1 " * 47 + "nan\n", "line 1, value 48: nan"),
        ("a " + "1 " * 48 + "\nb " + "1 " * 47 + "\n", "line 2: 47 values"),
        ("h\xe4nd", "not a text file"),
    ],
)
def test_damaged_label_text(copied, text, message):
    root = copied("icvl")
    (root / "Testing" / "test_seq_1.txt").write_text(text, encoding="latin-1")
    with pytest.raises(DatasetError, match=f"test_seq_1.txt.*{message}.*expected"):
        ICVL(root, "test")


def test_damaged_mat(copied):
    root = copied("nyu")
    path = root / "test" / "joint_data.mat"
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(DatasetError, match=r"joint_data\.mat: not a readable MATLAB file"):
        NYU(root, "test")
    path.write_bytes(b"")
    with pytest.raises(DatasetError, match=r"joint_data\.mat"):
        NYU(root, "test")


def test_index_out_of_range(trees):
    dataset = NYU(trees["nyu"][0], "test")
    with pytest.raises(IndexError, match="frame 3 asked for; there are 3"):
        dataset[3]
    assert dataset[-1].index == 2


@needs_published_data
def test_golden_nyu_frame(tmp_path):
    """The one published frame, read as NYU's test frame 1, with line 1 of the published labels and centres."""
    from helpers.dataset_trees import EVALUATED
    from scipy.io import savemat

    line = np.loadtxt(PUBLISHED / "nyu" / "test_groundtruth_uvd.txt", max_rows=1).reshape(14, 3)
    center = np.loadtxt(PUBLISHED / "nyu" / "test_centers_uvd.txt", max_rows=1)
    labels = np.zeros((3, 1, 36, 3))
    labels[0, 0, EVALUATED] = line
    (tmp_path / "test").mkdir()
    savemat(tmp_path / "test" / "joint_data.mat", {"joint_uvd": labels})
    (tmp_path / "test" / "depth_1_0000001.png").symlink_to(PUBLISHED / "nyu" / "depth_1_0000001.png")
    sample = NYU(tmp_path, "test", centers=center[None])[0]
    assert sample.name == "test/depth_1_0000001.png"
    assert tuple(sample.depth.shape) == (480, 640)
    assert (int(sample.depth.numpy().min()), int(sample.depth.numpy().max())) == (731, 2001)
    np.testing.assert_allclose(sample.center.numpy(), [209.73, 269.557, 756.371], atol=1e-4)
    np.testing.assert_allclose(sample.uvd.numpy(), line, atol=1e-4)
    column, row, z = sample.uvd.numpy().T
    gap = z - sample.depth.numpy()[np.rint(row).astype(int), np.rint(column).astype(int)]
    assert gap.min() > 0  # the surface lies in front of every joint, 4 to 40 mm
    assert gap.max() < 45
    np.testing.assert_allclose(project(sample.xyz.numpy(), (588.03, 587.07, 320, 240, 0, 0)), line, atol=1e-3)
