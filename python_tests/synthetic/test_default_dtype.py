# SPDX-License-Identifier: MIT
"""The default dtype of torch changes no synthetic frame and no estimate, and training makes float32 models."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers.drawn_hand import hand

from poseren_ext import Camera, Estimator, find_hands
from poseren_ext.inference.diagnosis import examine
from poseren_ext.live.tracking import HandTracker
from poseren_ext.synthetic import (
    SPLIT_KINDS,
    SyntheticHands,
    SyntheticSequence,
    TrainingHands,
    VariedHands,
    split_hands,
)
from poseren_ext.synthetic.scenes import SyntheticScenes
from poseren_ext.training import TrainConfig, Trainer

CAMERA = Camera(240, 240, 159.5, 119.5)
INDEX = torch.arange(6)


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def tensors(value: Any) -> dict[str, torch.Tensor]:
    """Every tensor and array in a dataclass, by name."""
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    return {name: torch.as_tensor(one) for name, one in fields.items() if isinstance(one, torch.Tensor | np.ndarray)}


def assert_unchanged(make: Callable[[], Any]) -> None:
    expected = tensors(make())
    for dtype in (torch.float64, torch.bfloat16):
        with default_dtype(dtype):
            actual = tensors(make())
        assert actual.keys() == expected.keys()
        for name, one in expected.items():
            torch.testing.assert_close(actual[name], one, rtol=0, atol=0, equal_nan=True)


FRAMES: dict[str, Callable[[], Any]] = {
    "whole frames": lambda: SyntheticHands(1, split="test").frames(INDEX[:1]),
    "tiles": lambda: SyntheticHands(1).tiles(INDEX),
    "a sequence": lambda: SyntheticSequence(1).tiles(INDEX),
    "whole varied frames": lambda: VariedHands(1).frames(INDEX[:1]),
    "varied tiles": lambda: VariedHands(1).tiles(INDEX),
    "training tiles": lambda: TrainingHands(1).tiles(INDEX),
    "scenes": lambda: SyntheticScenes(1).frames(INDEX[:4]),
} | {f"split {kind}": (lambda kind=kind: split_hands(kind, "test").tiles(INDEX[:3])) for kind in SPLIT_KINDS}


@pytest.mark.parametrize("name", FRAMES)
def test_synthetic_frames_are_the_same(name: str) -> None:
    assert_unchanged(FRAMES[name])


@pytest.mark.parametrize("settings", [{"tta": 2}, {"hand": "auto"}, {"precision": "int8"}, {"stages": 0}])
def test_estimates_are_the_same(settings: dict[str, Any]) -> None:
    assert_unchanged(lambda: Estimator(camera=CAMERA, **settings)(hand(), return_stages=True))


def test_detection_tracking_and_examination_are_the_same() -> None:
    frame = torch.from_numpy(hand())
    expected = find_hands(frame.numpy(), CAMERA)[0].center, examine(frame.numpy(), CAMERA).findings
    tracker = HandTracker(Estimator(camera=CAMERA))
    poses = [tracker.estimate(frame, 0.1 * i)[0].pose.joints for i in range(2)]
    with default_dtype(torch.float64):
        assert (find_hands(frame.numpy(), CAMERA)[0].center, examine(frame.numpy(), CAMERA).findings) == expected
        tracker = HandTracker(Estimator(camera=CAMERA))
        again = [tracker.estimate(frame, 0.1 * i)[0].pose.joints for i in range(2)]
    for one, other in zip(poses, again, strict=True):
        torch.testing.assert_close(other, one, rtol=0, atol=0)


@pytest.mark.parametrize("optimizer", ["muon", "sgd"])
def test_training_makes_float32_models(optimizer: str, tmp_path: Path) -> None:
    config = TrainConfig(
        channels=(4, 8, 8),
        init_widths=(16, 16),
        refine_widths=(8, 8),
        batch=6,
        chunk=12,
        init_steps=1,
        refine_steps=1,
        warmup=1,
        optimizer=optimizer,
        validation_frames=8,
    )
    with default_dtype(torch.float64):
        model = Trainer(config, tmp_path).run()
    for name, weight in model.state_dict().items():
        assert weight.dtype == torch.float32, name
        assert torch.isfinite(weight).all(), name
