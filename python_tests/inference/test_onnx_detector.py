# SPDX-License-Identifier: MIT
"""The hand detector in ONNX Runtime: it computes what PyTorch computes."""

from __future__ import annotations

import multiprocessing
import warnings
from typing import Any

import numpy as np
import pytest
import torch

from poseren_ext import find_hands
from poseren_ext.geometry.camera import CAMERAS
from poseren_ext.inference import learnt_detection, onnx_detector
from poseren_ext.inference.learnt_detection import bundled_detector, fastest_detector, learnt_hands
from poseren_ext.inference.onnx_detector import OnnxDetector
from poseren_ext.models.detector import HandDetector
from poseren_ext.models.hand_proposals import ProposalNetwork
from poseren_ext.models.hand_verifier import SIZE, HandVerifier
from poseren_ext.synthetic.scenes import SyntheticScenes, reduced


@pytest.fixture
def chosen_again() -> Any:
    fastest_detector.cache_clear()
    yield
    fastest_detector.cache_clear()


@pytest.mark.parametrize("size", [(96, 160), (128, 160), (16, 32)])
def test_the_first_stage_computes_the_same_for_any_weights_and_size(size: tuple[int, int]) -> None:
    torch.manual_seed(size[0])
    detector = HandDetector(ProposalNetwork(), HandVerifier()).requires_grad_(False)
    depth = 400.0 + 800.0 * torch.rand(1, *size)
    depth[:, :8, :12] = 0.0
    focal = torch.tensor([110.0])
    expected = detector.proposals(depth, focal)
    assert expected.std((0, 2, 3)).min() > 1e-3
    torch.testing.assert_close(OnnxDetector(detector).proposals(depth, focal), expected, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("count", [1, 5, 16])
def test_the_second_stage_computes_the_same_for_any_weights_and_number_of_crops(count: int) -> None:
    torch.manual_seed(count)
    detector = HandDetector(ProposalNetwork(), HandVerifier()).requires_grad_(False)
    crops, pitch = 2.0 * torch.rand(count, 2, SIZE, SIZE) - 1.0, torch.rand(count)
    for ours, expected in zip(
        OnnxDetector(detector).verifier(crops, pitch), detector.verifier(crops, pitch), strict=True
    ):
        assert expected.std() > 1e-3
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-3)


def test_hands_are_found_by_onnx_runtime_with_the_results_of_pytorch(chosen_again: None) -> None:
    camera = reduced(CAMERAS["sr305"], 2)
    scenes = SyntheticScenes(5, "test", camera=camera).frames(torch.arange(8))
    assert isinstance(fastest_detector(), OnnxDetector)
    count = 0
    for frame in scenes.depth.numpy().astype(np.uint16):
        ours, expected = find_hands(frame, camera), learnt_hands(frame, camera, 2, 1.0, detector=bundled_detector())
        assert [(hand.side, pytest.approx(hand.score, abs=1e-4)) for hand in expected] == [
            (hand.side, hand.score) for hand in ours
        ]
        for one, other in zip(ours, expected, strict=True):
            assert one.center == pytest.approx(other.center, abs=0.01)
            assert one.middle == pytest.approx(other.middle, abs=0.01)
        count += len(ours)
    assert count >= 6


def test_pytorch_finds_hands_without_onnx_runtime(monkeypatch: pytest.MonkeyPatch, chosen_again: None) -> None:
    def missing(*_: str) -> Any:
        raise ModuleNotFoundError("no module named onnxruntime")

    monkeypatch.setattr(onnx_detector, "import_library", missing)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert fastest_detector() is bundled_detector()


def test_a_release_of_onnx_runtime_that_cannot_load_the_graphs_gives_a_warning(
    monkeypatch: pytest.MonkeyPatch, chosen_again: None
) -> None:
    def unknown(*_: str) -> Any:
        raise RuntimeError("unsupported opset")

    monkeypatch.setattr(learnt_detection, "OnnxDetector", unknown)
    with pytest.warns(UserWarning, match=r"unsupported opset\).*pip install --upgrade onnxruntime"):
        assert fastest_detector() is bundled_detector()


def test_a_worker_process_finds_hands_too(chosen_again: None) -> None:
    """As those of a DataLoader do: OpenMP's threads, which PyTorch uses, do not survive a fork."""
    camera = reduced(CAMERAS["sr305"], 4)
    frame = SyntheticScenes(5, "test", camera=camera).frames(torch.arange(1)).depth[0].numpy()
    expected = [hand.center for hand in find_hands(frame, camera)]

    def work() -> None:
        torch.set_num_threads(1)
        found.put([hand.center for hand in find_hands(frame, camera)])

    context = multiprocessing.get_context("fork")
    found = context.SimpleQueue()
    process = context.Process(target=work, daemon=True)
    process.start()
    process.join(60)
    assert process.exitcode == 0
    assert found.get() == expected
