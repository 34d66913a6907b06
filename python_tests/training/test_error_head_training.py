# SPDX-License-Identifier: MIT
"""Training of the error head: its samples, its loss, and the measures of it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.docs_blocks import block_not_run, changed, commands
from helpers.small_models import small_config, small_model

from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.models import ErrorHead, ErrorHeadConfig, load, save
from tools.bundle_model import error_head, error_training
from tools.bundle_model.error_measure import ErrorResult, auc, error_summary
from tools.bundle_model.error_training import ErrorSamples, fit_error_head, make_crops, make_samples

CHUNK = 16


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_training, "CHUNK", CHUNK)
    monkeypatch.setattr(error_training, "SAMPLES", 2 * CHUNK + 2 * (CHUNK // 8))


def turn_of(pose: torch.Tensor) -> torch.Tensor:
    """Sign of the volume that wrist and three knuckles span: the other one for the other hand."""
    index, middle, little = (pose[:, joint] - pose[:, 0] for joint in (1, 9, 13))
    return torch.linalg.det(torch.stack([index, middle + pose[:, 17] - pose[:, 0], little], 1)).sign()


def test_each_frame_is_seen_as_the_right_and_as_the_wrong_hand() -> None:
    crops = make_crops(0, "msra21", 150.0)
    assert crops.crop.shape == (36, 1, 96, 96)
    right, wrong = crops.pose[:CHUNK], crops.pose[CHUNK : 2 * CHUNK]
    assert torch.equal(turn_of(right), -turn_of(wrong))
    start, end = (list(ends) for ends in zip(*SKELETONS["msra21"].bones, strict=True))
    lengths = [(pose[:, start] - pose[:, end]).norm(dim=-1) for pose in (right, wrong)]
    torch.testing.assert_close(lengths[0], lengths[1], rtol=1e-3, atol=1e-4)
    assert float(crops.pose[2 * CHUNK :].abs().mean()) > 2 * float(right.abs().mean())  # looks elsewhere
    assert torch.equal(make_crops(0, "msra21", 150.0).crop, crops.crop)


def test_samples_hold_the_way_from_the_predicted_to_the_true_joints() -> None:
    model = small_model(small_config("msra21"), spread=0.5).requires_grad_(False)
    crops = make_crops(1, "msra21", 150.0)
    samples = make_samples(model, ErrorHead(ErrorHeadConfig(), model.skeleton, 8, 96), crops)
    with torch.inference_mode():
        predicted = model(crops.crop.float())[-1]
    errors = [150 * (crops.pose - predicted).norm(dim=-1).mean(-1), samples.offset.norm(dim=-1).mean(-1)]
    torch.testing.assert_close(errors[0], errors[1], rtol=0.05, atol=3.0)  # convolutions are in bfloat16


def test_a_head_learns_which_samples_are_wrong_and_leaves_the_rest_of_the_model() -> None:
    """Errors that one input determines; what it gives is on the scale of the samples as they were before."""
    torch.manual_seed(0)
    model = small_model(small_config("msra21"), spread=0.5)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    count = 6 * error_training.SAMPLES
    head = ErrorHead(ErrorHeadConfig(), model.skeleton, 8, 96)
    surface, comparisons = head.inputs(torch.zeros(1, 1, 96, 96), torch.zeros(1, 21, 3), torch.zeros(1, 21, 3))
    offset = torch.zeros(count, 21, 3)
    chunks = offset.view(6, -1, 21, 3)
    chunks[..., 0] = 10 + 30 * torch.rand(6, error_training.SAMPLES, 1)
    chunks[:, CHUNK : 2 * CHUNK, :, 0] = chunks[:, :CHUNK, :, 0] + 30  # the wrong hand of each frame
    values = 0.1 * torch.randn(count, comparisons.shape[1])
    values[:, 0] = offset[:, 0, 0] / 100
    features = 5 * torch.rand(count, 8, 12, 12)

    def samples(head: ErrorHead) -> ErrorSamples:
        return ErrorSamples(surface.expand(count, -1, -1, -1).clone(), values.clone(), features.clone(), offset)

    fit_error_head(model, samples, ErrorHeadConfig(8, 32, 0.0), epochs=24, batch=48, rate=1e-2)
    assert all(torch.equal(value, model.state_dict()[name]) for name, value in before.items())
    assert model.error is not None
    with torch.inference_mode():
        logit = model.error.score(surface.expand(count, -1, -1, -1), values, features)
    predicted, true = (150 * torch.sigmoid(logit)).numpy().astype(float), offset[:, 0, 0].numpy()
    assert auc(predicted, true > 40) > 0.95
    assert np.abs(predicted - true).mean() < 8.0


def test_the_command_of_the_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/guides/model.md, with a chunk of frames."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(error_head, "CHUNK", CHUNK)
    Path("runs/mine").mkdir(parents=True)
    save(small_model(small_config("msra21"), spread=0.5), Path("runs/mine/model.safetensors"))
    (command,) = commands(block_not_run("guides/model.md", "error_head"))
    python, _, module, *arguments = changed(command, "--epochs", "1", "--test-frames", "0", frames=str(CHUNK))
    assert (python, module) == ("python", error_head.__name__)
    monkeypatch.setattr(sys, "argv", [module, *arguments])
    error_head.main()
    assert load(Path("mine.safetensors")).error is not None


def test_the_area_under_the_curve_is_the_share_of_pairs_in_order() -> None:
    rng = np.random.default_rng(4)
    score, wrong = rng.integers(0, 9, 60).astype(float), rng.random(60) < 0.3
    bad, good = score[wrong][:, None], score[~wrong][None]
    assert auc(score, wrong) == pytest.approx(float(np.mean((bad > good) + 0.5 * (bad == good))))


def test_the_summary_counts_right_hands_and_errors_by_decile() -> None:
    predicted = np.arange(1.0, 21.0)
    looks = (np.stack([predicted + shift, 2 * predicted + shift]) for shift in (0, 5, 90))
    result = ErrorResult("palm", *looks, detected=np.array([True, True, False]))
    result.wrong[0, :5] = 0.5  # in a quarter of the frames the wrong hand looks better
    assert result.hand_share == 0.75
    text = error_summary([result])
    assert "| palm | 75.0% | 21.00 | 22.25 | - (5 wrong) |" in text
    assert "| all | 75.0% | 21.00 | 22.25 | 1.000 |" in text
    assert "| predicted | 1.5 |" in text
    assert "| true | 3.0 |" in text
    assert text.endswith("`auto` takes the right one in 66.7% of the frames.")
