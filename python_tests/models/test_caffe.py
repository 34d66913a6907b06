# SPDX-License-Identifier: MIT
"""The released weights: files that the test writes, against OpenCV's Caffe runtime."""

import cv2
import numpy as np
import pytest
import torch
from helpers import caffe_files
from helpers.caffe_files import NARROW, OURS, system

from poseren_ext.models import load, save
from poseren_ext.models.caffe import DATASETS, import_caffe, read_init_cnn, read_refiner


class Oracle:
    """The released system in OpenCV: Init-CNN, then stages whose windows are computed as the authors' layer does."""

    def __init__(self, refiner, init, dataset, batch, sizes):
        def net(path, kind):
            text = caffe_files.prototxt(dataset, kind, batch, **sizes).encode()
            return cv2.dnn.readNetFromCaffe(np.frombuffer(text, np.uint8), np.fromfile(path, np.uint8))

        self.dataset = dataset
        self.init, self.refiner = net(init, "baseline"), net(refiner, "pose_ren")

    def initial(self, crop):
        self.init.setInput(crop, "data")
        return self.init.forward("fc3")

    def stage(self, crop, pose):
        """One stage in the networks' own joint order: pose [B, 3J] -> (pose [B, 3J], regions by own joint)."""
        joints = caffe_files.guided(self.dataset)
        self.refiner.setInput(crop, "data")
        for joint in joints:
            self.refiner.setInput(rois(pose, joint), f"rois_{joint}")
        regions = self.refiner.forward([f"roi_pool_{joint}" for joint in joints])
        return self.refiner.forward("fc3_0"), dict(zip(joints, regions, strict=True))

    def public(self, pose):
        return pose.reshape(len(pose), -1, 3)[:, caffe_files.own_order(self.dataset)]


def rois(pose, joint):
    """[B, 5] = sample, x1, y1, x2, y2 in crop pixels."""
    rows = []
    for sample, (x, y) in enumerate(pose.reshape(len(pose), -1, 3)[:, joint, :2]):
        corners = []
        for p in (x, y):
            low, high = (p + 1) * 96 / 2 - 24, (p + 1) * 96 / 2 + 24
            if low < 0:
                low, high = 0, 48
            if high >= 95:
                low, high = 47, 95
            corners.append((low, high))
        rows.append([sample, corners[0][0], corners[1][0], corners[0][1], corners[1][1]])
    return np.array(rows, np.float32)


def random_crops(batch):
    return np.random.default_rng(3).uniform(-1, 1, (batch, 1, 96, 96)).astype(np.float32)


@pytest.mark.parametrize("old", [False, True], ids=["layer", "layers"])
@pytest.mark.parametrize("dataset", DATASETS)
def test_cascade_equals_opencv(tmp_path, dataset, old):
    refiner, init = system(tmp_path, dataset, old=old)
    model = import_caffe(refiner, dataset, **OURS)
    oracle = Oracle(refiner, init, dataset, 5, NARROW)
    crop = random_crops(5)
    own = oracle.initial(crop)
    with torch.inference_mode():
        poses = model(torch.from_numpy(crop), stages=3).numpy()
    np.testing.assert_allclose(poses[0], oracle.public(own), atol=1e-4)
    for stage in (1, 2, 3):
        own, _ = oracle.stage(crop, own)
        np.testing.assert_allclose(poses[stage], oracle.public(own), atol=1e-4)
    assert np.abs(poses[1] - poses[0]).max() > 0.05, "the stages do nothing: the comparison shows little"


@pytest.mark.parametrize("dataset", DATASETS)
def test_windows_equal_opencv(tmp_path, dataset):
    """Each region of each guided joint, wherever it is: in the middle, at an edge, outside, at a window's boundary."""
    refiner, init = system(tmp_path, dataset)
    backbone, head = read_refiner(refiner, dataset, **OURS)
    oracle = Oracle(refiner, init, dataset, 40, NARROW)
    crop = random_crops(40)
    public = np.random.default_rng(5).uniform(-1.4, 1.4, (40, caffe_files.JOINTS[dataset], 3)).astype(np.float32)
    public[:20] = np.round(public[:20] * 24) / 24  # multiples of two pixels: windows at halves of a cell
    own = np.empty_like(public)
    own[:, caffe_files.own_order(dataset)] = public
    refined, regions = oracle.stage(crop, own.reshape(40, -1))
    with torch.inference_mode():
        features = backbone(torch.from_numpy(crop))
        ours = head.regions(features, torch.from_numpy(public)).numpy()
        pose = head(features, torch.from_numpy(public)).numpy()
    for region, joint in enumerate(head.config.joints):
        expected = regions[caffe_files.own_order(dataset)[joint]]
        np.testing.assert_allclose(ours[:, region], expected, atol=1e-4)
    np.testing.assert_allclose(pose, oracle.public(refined), atol=1e-4)


def test_released_size_equals_opencv(tmp_path):
    """The networks as released: 16, 32, 64 channels and layers of 2048."""
    sizes = {"channels": 16, "width": 2048}
    generator = np.random.default_rng(1)
    weights = caffe_files.random_weights("nyu", "baseline", generator=generator, **sizes)
    path = caffe_files.write(tmp_path / "nyu_baseline.caffemodel", weights)
    model = read_init_cnn(path, "nyu")
    text = caffe_files.prototxt("nyu", "baseline", 2, **sizes).encode()
    net = cv2.dnn.readNetFromCaffe(np.frombuffer(text, np.uint8), np.fromfile(path, np.uint8))
    crop = random_crops(2)
    net.setInput(crop, "data")
    with torch.inference_mode():
        ours = model(torch.from_numpy(crop)).numpy()
    expected = net.forward("fc3").reshape(2, -1, 3)[:, caffe_files.NYU_OWN]
    np.testing.assert_allclose(ours, expected, atol=1e-4)


def test_float64_weights(tmp_path):
    one, two = tmp_path / "float", tmp_path / "double"
    one.mkdir()
    two.mkdir()
    a = import_caffe(system(one, "icvl")[0], "icvl", **OURS).state_dict()
    b = import_caffe(system(two, "icvl", double=True)[0], "icvl", **OURS).state_dict()
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_saved_as_safetensors(tmp_path):
    refiner, init = system(tmp_path, "msra")
    model = import_caffe(refiner, "msra", init=init, **OURS)
    save(model, tmp_path / "msra.safetensors")
    loaded = load(tmp_path / "msra.safetensors")
    assert loaded.config.skeleton == "msra21"
    crop = torch.from_numpy(random_crops(2))
    with torch.inference_mode():
        assert torch.equal(loaded(crop), model(crop))


@pytest.mark.parametrize("kind", ["ren_4x6x6", "ren_9x6x6"])
@pytest.mark.parametrize("dataset", ["nyu", "icvl", "msra"])
def test_a_region_ensemble_network_equals_opencv(tmp_path, dataset, kind):
    path = tmp_path / f"model_{dataset}_{kind}.caffemodel"
    caffe_files.write(path, caffe_files.random_weights(dataset, kind, **NARROW))
    text = caffe_files.prototxt(dataset, kind, 3, **NARROW).encode()
    net = cv2.dnn.readNetFromCaffe(np.frombuffer(text, np.uint8), np.fromfile(path, np.uint8))
    crop = random_crops(3)
    net.setInput(crop, "data")
    expected = net.forward("fc_concat").reshape(3, -1, 3)[:, caffe_files.own_order(dataset)]
    model = import_caffe(path, dataset, **OURS)
    with torch.inference_mode():
        poses = model(torch.from_numpy(crop), stages=1).numpy()
    np.testing.assert_allclose(poses[0], expected, atol=1e-4)
    np.testing.assert_allclose(poses[1], expected, atol=1e-4)
    assert np.abs(expected).max() > 0.05
    save(model, tmp_path / "ren.safetensors")
    assert load(tmp_path / "ren.safetensors").config.init.map_dropout == (0.5 if kind == "ren_9x6x6" else 0.0)
    refiner, _ = system(tmp_path, dataset)
    start = import_caffe(refiner, dataset, init=path, **OURS).init
    with torch.inference_mode():
        np.testing.assert_allclose(start(torch.from_numpy(crop)).numpy(), expected, atol=1e-4)
