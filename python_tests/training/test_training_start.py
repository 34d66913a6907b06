# SPDX-License-Identifier: MIT
"""Warm starts: a training begins with the weights of another run or of the bundled model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from helpers.interrupted_training import interrupt_training

from poseren_ext.models import PoseREN, load
from poseren_ext.models.files import BUNDLED
from poseren_ext.training import RECIPES, TrainConfig, Trainer
from poseren_ext.training.initial_poses import load_start

SMALL = TrainConfig(
    channels=(4, 8, 8),
    init_widths=(16, 16),
    refine_widths=(8, 8),
    batch=6,
    chunk=16,
    reuse=2,
    init_steps=2,
    refine_steps=2,
    stages=2,
    warmup=1,
    validate_every=0,
    checkpoint_every=1,
)


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model file of a first run."""
    folder = tmp_path_factory.mktemp("first")
    Trainer(SMALL, folder).run()
    return folder / "model.safetensors"


def _same(a: torch.nn.Module, b: torch.nn.Module) -> bool:
    one, other = a.state_dict(), b.state_dict()
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_both_networks_and_the_mean_pose_are_those_of_the_start(tmp_path: Path, first: Path) -> None:
    config = dataclasses.replace(SMALL, start=str(first), seed=9, dropout=0.5, init_steps=0, refine_steps=0)
    assert _same(Trainer(config, tmp_path).run(), load(first))


def test_only_the_refining_network_moves_without_init_steps(tmp_path: Path, first: Path) -> None:
    config = dataclasses.replace(SMALL, start=str(first), seed=9, init_steps=0)
    model, before = Trainer(config, tmp_path).run(), load(first)
    assert _same(model.init, before.init)
    assert not torch.equal(model.backbone.conv0.weight, before.backbone.conv0.weight)
    assert not torch.equal(model.head.region_weight, before.head.region_weight)


def test_the_refining_network_keeps_its_own_convolutions_after_init_steps(tmp_path: Path, first: Path) -> None:
    config = dataclasses.replace(SMALL, start=str(first), refine_steps=0)
    model, before = Trainer(config, tmp_path).run(), load(first)
    assert not torch.equal(model.init.backbone.conv0.weight, before.init.backbone.conv0.weight)
    assert _same(model.backbone, before.backbone)


def test_resuming_needs_no_start_any_more(tmp_path: Path, first: Path) -> None:
    start = tmp_path / "start.safetensors"
    start.write_bytes(first.read_bytes())
    config = dataclasses.replace(SMALL, start=str(start))
    whole = Trainer(config, tmp_path / "whole").run()

    interrupt_training(config, tmp_path / "parts", "refine", 1)
    start.unlink()
    assert _same(Trainer(config, tmp_path / "parts", resume=True).run(), whole)


def test_the_bundled_model_is_a_start_of_its_own_recipe() -> None:
    model = PoseREN.build(RECIPES["bundled"].model())
    load_start(model, "demo")
    bundled = load(BUNDLED["demo"])
    bundled.error = None  # no part of training
    assert _same(model, bundled)


def test_what_does_not_fit_is_refused(tmp_path: Path, first: Path) -> None:
    with pytest.raises(ValueError, match="set the same skeleton, hand, cube, heads, channels and widths"):
        Trainer(dataclasses.replace(SMALL, start=str(first), refine_widths=(8, 12)), tmp_path)
    with pytest.raises(FileNotFoundError, match=r"no model at .*none\.safetensors"):
        Trainer(dataclasses.replace(SMALL, start=str(tmp_path / "none.safetensors")), tmp_path)
