# SPDX-License-Identifier: MIT
"""The recipes "paper" and "released" train as the paper and the authors' code do."""

from __future__ import annotations

import copy
import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from poseren_ext.geometry.crop_transforms import move_pose
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.models import HeadConfig
from poseren_ext.models.network import RegionEnsemble
from poseren_ext.training import Trainer, make_config
from poseren_ext.training.optimizers import CaffeSGD
from poseren_ext.training.pack_batches import CropBatch

TINY = {"channels": [4, 8, 8], "init_widths": [16, 16], "refine_widths": [8, 8], "skeleton": "nyu14"}


def caffe_loss(pose: Tensor, target: Tensor, sigma: float) -> Tensor:
    """Caffe's SmoothL1Loss layer, written out: summed over all numbers, divided by the batch."""
    x = (pose - target).abs()
    each = torch.where(x < 1 / sigma**2, 0.5 * (sigma * x) ** 2, x - 0.5 / sigma**2)
    return each.sum() / len(pose)


@pytest.mark.parametrize("kind", ["init", "refine"])
@pytest.mark.parametrize(("recipe", "sigma", "bias_rate"), [("paper", 1.0, 1.0), ("released", 10.0, 2.0)])
def test_five_steps_are_caffes_update_across_a_drop_of_the_learning_rate(
    recipe: str, sigma: float, bias_rate: float, kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loss, gradients and update in float64, with the dropout masks of the training."""
    fields = {"init_steps": 8, "refine_steps": 8, "batch": 8, "frames": 24, "validate_every": 0, "stages": 1}
    config = make_config({**TINY, **fields, "recipe": recipe, "learning_rate": 0.02, "refine_rate": 1.0})
    trainer = Trainer(config, tmp_path)
    if kind == "refine":
        trainer.start_phase("refine")
    float32_batch = trainer.stream.batch

    def float64_batch(step: int, share: slice = slice(None)) -> CropBatch:
        batch = float32_batch(step, share)
        return dataclasses.replace(batch, crop=batch.crop.double(), pose=batch.pose.double())

    monkeypatch.setattr(trainer.stream, "batch", float64_batch)
    trainer.model.double()
    parts = {"init": [trainer.model.init], "refine": [trainer.model.backbone, trainer.model.head]}[kind]
    trained = {name: parameter for part in parts for name, parameter in part.named_parameters()}
    with torch.no_grad():  # larger than the recipe's 0.001, so that gradients are too
        for parameter in trained.values():
            parameter.add_(0.05 * torch.randn_like(parameter))
    own = copy.deepcopy(parts)
    weights = {name: parameter for part in own for name, parameter in part.named_parameters()}
    velocity = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    masks: list[Tensor] = []

    def dropout(hidden: Tensor, p: float, training: bool = True) -> Tensor:
        masks.append((torch.rand(hidden.shape) >= p).to(hidden.dtype) / (1 - p))
        return hidden * masks[-1]

    monkeypatch.setattr("torch.nn.functional.dropout", dropout)
    for step in range(5):
        rate = 0.02 * 0.1 ** (step // 2)  # 8 steps: a tenth at every second one
        batch = float64_batch(step)
        masks.clear()
        reported = trainer.advance(1)
        assert len(masks) == 2
        with monkeypatch.context() as patch:
            given = iter(masks)
            patch.setattr("torch.nn.functional.dropout", lambda h, p, training=True, g=given: h * next(g))
            if kind == "init":
                predicted = own[0](batch.crop)
            else:
                pose = move_pose(trainer.poses[0][batch.index], batch.transform)
                predicted = own[1](own[0](batch.crop), pose)
        loss = caffe_loss(predicted, batch.pose, sigma)
        torch.testing.assert_close(reported, loss.detach(), atol=0, rtol=1e-6)
        gradients = torch.autograd.grad(loss, list(weights.values()))
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            times = bias_rate if name.endswith("bias") else 1.0
            velocity[name] = 0.9 * velocity[name] + times * rate * (gradient + 5e-4 * weight.detach())
            weight.data -= velocity[name]
            torch.testing.assert_close(trained[name].detach(), weight.detach(), atol=1e-7, rtol=0)
        assert max(float(v.abs().max()) for v in velocity.values()) > 1e-4  # it moves


@pytest.mark.parametrize("shape", [(70_001, 3), (8, 4, 3, 3)], ids=["blocks", "channels last"])
def test_large_weights_and_convolutions_are_updated_alike(shape: tuple[int, ...]) -> None:
    weight = torch.nn.Parameter(torch.randn(shape))
    if len(shape) == 4:
        weight = torch.nn.Parameter(weight.detach().to(memory_format=torch.channels_last))
    optimizer = CaffeSGD([{"params": [weight], "lr": 0.1}], momentum=0.9, weight_decay=0.01)
    expected, velocity = weight.detach().double(), torch.zeros(shape, dtype=torch.float64)
    for _ in range(3):
        gradient = torch.randn(shape)
        weight.grad = torch.empty_like(weight).copy_(gradient)
        optimizer.step()
        velocity = 0.9 * velocity + 0.1 * (gradient.double() + 0.01 * expected)
        expected = expected - velocity
        torch.testing.assert_close(weight.detach().double(), expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("kind", "dropped"), [("ren_9x6x6", 1), ("ren_4x6x6", 0), ("init_cnn", 0)])
def test_only_ren_9x6x6_drops_parts_of_the_feature_map(
    kind: str, dropped: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    head = RegionEnsemble(getattr(HeadConfig, kind)(SKELETONS["nyu14"], widths=(8, 8), channels=4))
    calls: list[tuple[tuple[int, ...], float]] = []

    def dropout(hidden: Tensor, p: float, training: bool = True) -> Tensor:
        calls.append((tuple(hidden.shape), p if training else 0.0))
        return hidden

    monkeypatch.setattr("torch.nn.functional.dropout", dropout)
    features = torch.randn(2, 4, 12, 12)
    head.train()(features)
    assert [call for call in calls if call[0] == (2, 4, 12, 12)] == [((2, 4, 12, 12), 0.5)] * dropped
    assert [p for _, p in calls] == [0.5] * (2 + dropped)
    calls.clear()
    head.eval()(features)
    assert all(p == 0.0 for _, p in calls)
