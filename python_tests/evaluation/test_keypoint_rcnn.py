# SPDX-License-Identifier: MIT
"""The keypoint R-CNN, with a stand-in for torchvision's detector, and with torchvision if it is installed."""

import warnings

import pytest
import torch
from helpers.docs_blocks import block_not_run
from torch import nn

from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.evaluation.keypoint_rcnn import KeypointRCNN, build_keypoint_rcnn
from poseren_ext.evaluation.methods import LiftedKeypoints
from poseren_ext.evaluation.metrics import evaluate
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.synthetic import SyntheticHands


class Detector(nn.Module):
    """Returns given detections in torchvision's format."""

    def __init__(self, keypoints, scores):
        super().__init__()
        self.keypoints, self.scores = keypoints, scores
        self.seen = []

    def forward(self, images):
        assert not self.training
        assert isinstance(images, list)
        self.seen += images
        parts = zip(self.keypoints, self.scores, strict=True)
        return [{"keypoints": points, "scores": scores} for points, scores in parts]


@pytest.fixture(scope="module")
def frames():
    return SyntheticHands(12, "test").tiles(torch.arange(3), size=96, margin=1.2)


def test_targets_and_keypoints_are_inverses(frames):
    wanted = KeypointRCNN(nn.Identity(), 21).targets(frames, frames.uvd)
    detector = Detector([one["keypoints"] for one in wanted], [torch.ones(1)] * 3)
    found = KeypointRCNN(detector, 21)(frames)
    torch.testing.assert_close(found, frames.uvd[..., :2], rtol=0, atol=2e-3)
    for image in detector.seen:
        assert image.shape == (3, 96, 96)
        assert image.min() >= 0
        assert image.max() <= 1
    for one in wanted:
        assert {name: (tuple(value.shape), value.dtype) for name, value in one.items()} == {
            "boxes": ((1, 4), torch.float32),
            "labels": ((1,), torch.int64),
            "keypoints": ((1, 21, 3), torch.float32),
        }
        left, top, right, bottom = one["boxes"][0].tolist()
        assert 0 <= left < right <= 96
        assert 0 <= top < bottom <= 96
        x, y, visible = one["keypoints"][0].unbind(-1)
        inside = visible == 1
        assert inside.any()
        assert bool(((x >= left) & (x <= right) & (y >= top) & (y <= bottom))[inside].all())
        assert bool(((x < 0) | (y < 0) | (x >= 96) | (y >= 96))[~inside].all())


def test_a_keypoint_falls_on_the_pixel_that_shows_it():
    """A dot in a frame is where the crop's brightest pixel is, and lifting that pixel gives the dot's depth."""
    depth = torch.full((1, 240, 320), 650.0)
    depth[0, 129:132, 169:172] = 560.0
    depth[0, 130, 170] = 551.0
    camera, center = torch.tensor([[241.0, 241.0, 160.0, 120.0]]), torch.tensor([[160.0, 120.0, 600.0]])
    frame = FrameBatch(depth, camera, center, center[:, None], torch.arange(1))
    row, column = divmod(int(frame.crop(96)[0, 0].argmin()), 96)
    detector = Detector([torch.tensor([[[column + 0.5, row + 0.5, 1.0]]])], [torch.ones(1)])
    estimator = LiftedKeypoints(KeypointRCNN(detector, 1))
    u, v, d = estimator.estimate(frame)[0, 0].tolist()
    assert abs(u - 170) < 0.7  # a crop's pixel is 1.3 of the frame's
    assert abs(v - 130) < 0.7
    assert d == pytest.approx((8 * 560 + 551) / 9)


def test_lifted_keypoints_return_the_exact_surface():
    """On a slanted plane the mean of nine neighbours is the depth of the plane at any pixel."""
    rows, columns = torch.meshgrid(torch.arange(240.0), torch.arange(320.0), indexing="ij")
    depth = 600 + 0.25 * (columns - 160) - 0.5 * (rows - 120)
    camera, center = torch.tensor([[241.0, 241.0, 160.0, 120.0]]), torch.tensor([[160.0, 120.0, 600.0]])
    pixels = torch.tensor([[[160.0, 120.0, 600.0], [140.0, 131.0, 600.0], [171.0, 100.0, 600.0]]])
    frame = FrameBatch(depth[None], camera, center, pixels, torch.arange(1))
    around = KeypointRCNN(nn.Identity(), 3).targets(frame, pixels)[0]["keypoints"]
    uvd = LiftedKeypoints(KeypointRCNN(Detector([around], [torch.ones(1)]), 3)).estimate(frame)[0]
    torch.testing.assert_close(uvd[:, :2], pixels[0, :, :2], rtol=0, atol=1e-3)
    for (u, v, _), d in zip(pixels[0].tolist(), uvd[:, 2].tolist(), strict=True):
        assert d == pytest.approx(float(depth[int(v), int(u)]), abs=1e-3)


def test_the_best_detection_counts_and_none_is_told(frames):
    right = [one["keypoints"] for one in KeypointRCNN(nn.Identity(), 21).targets(frames, frames.uvd)]
    several = [torch.cat([right[0] + 20, right[0], right[0] - 20]), right[1], right[2][:0]]
    scores = [torch.tensor([0.2, 0.9, 0.5]), torch.tensor([0.1]), torch.zeros(0)]
    estimator = LiftedKeypoints(KeypointRCNN(Detector(several, scores), 21))
    with pytest.warns(UserWarning, match="no hand detected in 1 of 3 frames"):
        uvd = estimator.estimate(frames)
    torch.testing.assert_close(uvd[:2, :, :2], frames.uvd[:2, :, :2], rtol=0, atol=2e-3)
    torch.testing.assert_close(uvd[2, :, :2], frames.center[2, :2].expand(21, 2), rtol=0, atol=1e-3)
    result = evaluate(uvd, frames.uvd, frames.camera, skeleton=SKELETONS["msra21"])
    assert result.frames == 3


def _torchvision_network():
    try:
        return build_keypoint_rcnn(14)
    except ImportError as error:
        pytest.skip(f"torchvision's own network was not run: {error}")


def test_torchvision_network_of_random_weights(frames):
    torch.manual_seed(0)
    network = _torchvision_network()
    frames = frames[:2]
    detector = KeypointRCNN(network, 14)
    network.train()
    losses = network(detector.images(frames), detector.targets(frames, frames.uvd[:2, :14]))
    assert losses["loss_keypoint"].isfinite()
    network.roi_heads.score_thresh = 0.0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # random weights may detect nothing
        uvd = LiftedKeypoints(detector).estimate(frames)
    assert uvd.shape == (2, 14, 3)
    assert uvd.isfinite().all()


class TrainedDetector(Detector):
    """Has losses in training, as torchvision's networks do, and detects keypoints outside of it."""

    def __init__(self, joints):
        super().__init__([torch.rand(1, joints, 3)] * 3, [torch.ones(1)] * 3)
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, images, targets=None):
        if not self.training:
            return super().forward(images)
        error = sum(one["keypoints"][..., 0].mean() for one in targets)
        return {"loss_keypoint": self.weight**2 * error, "loss_classifier": self.weight**2}


def test_the_training_on_the_page(frames, monkeypatch):
    """docs/evaluation.md, with a stand-in for torchvision's network."""
    monkeypatch.setattr("poseren_ext.evaluation.keypoint_rcnn.build_keypoint_rcnn", TrainedDetector)
    scope = {"torch": torch, "LiftedKeypoints": LiftedKeypoints, "batches": [(frames, frames.uvd)]}
    exec(block_not_run("evaluation.md", "build_keypoint_rcnn"), scope)
    network = scope["network"]
    assert network.weight < 1, "nothing was learnt"
    assert scope["estimator"].estimate(frames).shape == (3, 21, 3)


def test_without_torchvision(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "torchvision", None)
    monkeypatch.setitem(__import__("sys").modules, "torchvision.models.detection", None)
    with pytest.raises(ImportError, match=r"poseren_ext\[maskrcnn\]"):
        build_keypoint_rcnn(14)
