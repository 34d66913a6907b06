# SPDX-License-Identifier: MIT
"""The recipes "paper" and "released" train as the paper and the authors' code do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from poseren_ext.geometry.crop_transforms import move_pose
from poseren_ext.training import Trainer, make_config

TINY = {"channels": [4, 8, 8], "init_widths": [16, 16], "refine_widths": [8, 8], "skeleton": "nyu14"}


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


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
    fields = {"init_steps": 8, "refine_steps": 8, "batch": 8, "frames": 24, "validate_every": 0, "stages": 1}
    config = make_config({**TINY, **fields, "recipe": recipe, "learning_rate": 0.02, "refine_rate": 1.0})
    trainer = Trainer(config, tmp_path)
    if kind == "refine":
        trainer.start_phase("refine")
    parts = {"init": [trainer.model.init], "refine": [trainer.model.backbone, trainer.model.head]}[kind]
    with torch.no_grad():  # larger than the recipe's 0.001, so that gradients are too
        for part in parts:
            for parameter in part.parameters():
                parameter.add_(0.05 * torch.randn_like(parameter))
    weights = {id(p): p.detach().double().clone() for part in parts for p in part.parameters()}
    velocity = {key: torch.zeros_like(value) for key, value in weights.items()}
    masks: list[Tensor] = []

    def dropout(hidden: Tensor, p: float, training: bool = True) -> Tensor:
        masks.append((torch.rand(hidden.shape) >= p).to(hidden.dtype) / (1 - p))
        return hidden * masks[-1]

    monkeypatch.setattr("torch.nn.functional.dropout", dropout)
    for step in range(5):
        rate = 0.02 * 0.1 ** (step // 2)  # 8 steps: a tenth at every second one
        batch = trainer.stream.batch(step)
        pose = move_pose(trainer.poses[0][batch.index], batch.transform) if kind == "refine" else None
        masks.clear()
        trainer.advance(1)
        assert len(masks) == 2
        given = iter(list(masks))
        monkeypatch.setattr("torch.nn.functional.dropout", lambda h, p, training=True, g=given: h * next(g))
        after = {id(p): p.detach().clone() for part in parts for p in part.parameters()}
        modules = [part.double() for part in parts]
        with torch.no_grad():
            for part in modules:
                for p in part.parameters():
                    p.copy_(weights[id(p)])
        crop = batch.crop.double()
        features = crop if kind == "init" else modules[0](crop)
        predicted = modules[0](crop) if kind == "init" else modules[1](features, pose)
        loss = caffe_loss(predicted, batch.pose.double(), sigma)
        for part in modules:
            part.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        for part in modules:
            for name, p in part.named_parameters():
                assert p.grad is not None
                own = rate * (bias_rate if name.endswith("bias") else 1.0)
                velocity[id(p)] = 0.9 * velocity[id(p)] + own * (p.grad + 5e-4 * p.detach())
                weights[id(p)] = weights[id(p)] - velocity[id(p)]
                torch.testing.assert_close(after[id(p)].double(), weights[id(p)], atol=1e-6, rtol=0)
        assert max(float(v.abs().max()) for v in velocity.values()) > 1e-4  # it moves
        for part in parts:
            part.float()
            for p in part.parameters():
                p.data.copy_(after[id(p)])
            part.zero_grad()
        monkeypatch.setattr("torch.nn.functional.dropout", dropout)
