# SPDX-License-Identifier: MIT
"""Training and measurement of the hand detector: targets, loss and counts by hand, and a short run of the tool."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
import torch

from poseren_ext.geometry.camera import Camera
from poseren_ext.inference.hand_detection import HandDetection
from poseren_ext.models.detector import CELL, load_detector, padded
from poseren_ext.synthetic.scenes import LEFT, NO_HAND, RIGHT, SceneFrames
from tools.detector import train as tool
from tools.detector.measure import Counts, count
from tools.detector.targets import Batch, augmented, box_centers, loss

FOCAL, DEPTH, ROWS, COLUMNS = 120.0, 600.0, 16, 20
LARGEST = -math.log(1e-4)  # of the focal loss of one cell: probabilities are limited to 1e-4


def one_hand(side: int = RIGHT, visible: float = 1.0) -> Batch:
    """A frame with a hand in the middle of the cell in row 6, column 9."""
    center = torch.tensor([[[(9.5 * CELL) - 0.5, (6.5 * CELL) - 0.5, DEPTH], [0.0, 0.0, 0.0]]])
    depth = torch.full((1, CELL * ROWS, CELL * COLUMNS), 900.0)
    sides, seen = torch.tensor([[side, NO_HAND]]), torch.tensor([[visible, 0.0]])
    return Batch(depth, torch.tensor([FOCAL]), center, sides, seen)


def perfect_maps(certainty: float = 20.0) -> torch.Tensor:
    """Maps that say exactly where the hand of `one_hand` is: [1, 5, ROWS, COLUMNS]."""
    maps = torch.full((1, 5, ROWS, COLUMNS), -certainty)
    maps[0, 0, 6, 9] = certainty
    maps[0, 2] = 9.5 - (torch.arange(COLUMNS) + 0.5)
    maps[0, 3] = 6.5 - (torch.arange(ROWS) + 0.5)[:, None]
    maps[0, 4] = math.log(DEPTH / 1000.0)
    return maps


def test_the_centre_is_the_middle_of_the_box_around_the_joints() -> None:
    xyz = torch.tensor([[-40.0, 10.0, 500.0], [60.0, -30.0, 560.0], [0.0, 90.0, 520.0]])
    uvd = torch.cat([FOCAL * xyz[:, :2] / xyz[:, 2:], xyz[:, 2:]], 1)
    expected = torch.tensor([FOCAL * 10.0 / 530.0, FOCAL * 30.0 / 530.0, 530.0])
    assert torch.allclose(box_centers(uvd, torch.tensor(FOCAL)), expected, atol=1e-4)


def test_the_loss_of_known_errors() -> None:
    assert float(loss(perfect_maps(), one_hand())) == pytest.approx(0.0, abs=1e-5)
    beside, deeper, missed, false = (perfect_maps() for _ in range(4))
    beside[0, 2] += 1.0  # one cell: CELL pixels at DEPTH
    assert float(loss(beside, one_hand())) == pytest.approx(0.15 * CELL * DEPTH / FOCAL / 20.0, rel=1e-4)
    deeper[0, 4] = math.log(1.1 * DEPTH / 1000.0)
    assert float(loss(deeper, one_hand())) == pytest.approx(0.15 * math.log(1.1) * DEPTH / 20.0, rel=1e-4)
    missed[0, 0, 6, 9] = -20.0
    assert float(loss(missed, one_hand())) == pytest.approx(LARGEST, rel=1e-3)
    false[0, 0, 14, 18] = 20.0
    assert float(loss(false, one_hand())) == pytest.approx(LARGEST, rel=1e-3)
    assert float(loss(perfect_maps(), one_hand(LEFT))) == pytest.approx(0.7 * 20.0, rel=1e-3)


@pytest.mark.parametrize(("visible", "cost"), [(0.01, LARGEST), (0.1, 0.0), (0.2, 0.0)])
def test_a_hand_that_is_hardly_visible_costs_nothing_whether_found_or_not(visible: float, cost: float) -> None:
    found, missed = perfect_maps(), perfect_maps()
    missed[0, 0, 6, 9] = -20.0
    assert float(loss(found, one_hand(visible=visible))) == pytest.approx(cost, rel=1e-3, abs=1e-5)
    wanted = LARGEST if visible >= 0.15 else 0.0
    assert float(loss(missed, one_hand(visible=visible))) == pytest.approx(wanted, rel=1e-3, abs=1e-5)


def test_augmented_frames_move_hands_with_their_pixels_and_swap_sides_in_mirrors() -> None:
    depth, count_ = torch.full((64, 60, 80), 900.0), 64
    depth[:, 25, 30], depth[:, 35, 45] = 500.0, 700.0
    center = torch.tensor([[30.0, 25.0, 500.0], [45.0, 35.0, 700.0]]).expand(count_, 2, 3)
    sides = torch.tensor([RIGHT, LEFT]).expand(count_, 2)
    before = Batch(depth, torch.full((count_,), FOCAL), center, sides, torch.ones(count_, 2))
    after = augmented(before, torch.Generator().manual_seed(3))
    mirrored = []
    for i in range(count_):
        for u, v, d in after.center[i].tolist():
            assert float(after.depth[i, int(v), int(u)]) == pytest.approx(d, rel=1e-5)
        across, down = (after.center[i, 1] - after.center[i, 0])[:2].tolist()
        mirrored.append((across < 0) != (down < 0))
        assert after.side[i].tolist() == ([LEFT, RIGHT] if mirrored[-1] else [RIGHT, LEFT])
    assert {True, False} == set(mirrored)
    scale = after.center[:, 0, 2] / 500.0
    assert float(scale.min()) < 0.95
    assert float(scale.max()) > 1.05


def test_a_short_training_lowers_the_loss_and_writes_a_detector(tmp_path: Path) -> None:
    frames, out = tool.stored([tmp_path / "frames.safetensors"], 128), tmp_path / "detector.safetensors"
    torch.manual_seed(0)
    tool.train(frames, 3.0, out, batch=8, rate=3e-2, start=None, precision="float32", compiled=False, seed=1)
    part = Batch(*(value[:32] for value in vars(frames).values()))
    part = replace(part, depth=part.depth.float())
    torch.manual_seed(0)
    untrained, trained = (
        float(loss(model(padded(part.depth), part.focal), part))
        for model in (tool._new_model().requires_grad_(False), load_detector(out))
    )
    assert trained < 0.95 * untrained


def test_rendered_frames_are_kept_for_other_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "frames.safetensors"
    monkeypatch.setattr(tool, "render", lambda frames, seed: one_hand())
    first = tool.stored([path], 1)
    monkeypatch.setattr(tool, "render", lambda frames, seed: pytest.fail("rendered again"))
    again = tool.stored([path], 1)
    assert all(torch.equal(a, b) for a, b in zip(vars(first).values(), vars(again).values(), strict=True))
    with pytest.raises(ValueError, match="holds 1 frames, 5 are wanted"):
        tool.stored([path], 5)
    assert len(tool.stored([path, path], 1).depth) == 2


def test_detections_are_counted_once_and_hidden_hands_not_at_all() -> None:
    camera = Camera(476.0, 476.0, 320.0, 240.0, 640, 480)
    offsets = torch.tensor([[-60.0, 0.0, 0.0], [60.0, 0.0, 0.0], [0.0, 70.0, 20.0]])
    xyz = torch.stack([offsets + torch.tensor([x, 0.0, 500.0]) for x in (-150.0, 150.0)])[None]
    uvd = torch.cat([476.0 * xyz[..., :2] / xyz[..., 2:] + torch.tensor([320.0, 240.0]), xyz[..., 2:]], -1)
    sides, kind = torch.tensor([[LEFT, RIGHT]]), torch.zeros(1, dtype=torch.int64)
    frames = SceneFrames(torch.zeros(1, 480, 640), torch.zeros(1, 4), uvd, xyz, sides, torch.tensor([[1.0, 0.2]]), kind)

    def found(x: float, side: Literal["left", "right"] | None) -> HandDetection:
        nothing = np.zeros((480, 640), bool)
        return HandDetection((476.0 * x / 510.0 + 320.0, 260.0, 510.0), side, 0.9, lambda: (nothing, nothing))

    left, twice, hidden, elsewhere = found(-150, "left"), found(-145, "right"), found(150, "left"), found(0, None)
    assert count([left], frames, 0, camera) == Counts(1, 1, 1, 1, 1, 1)
    assert count([twice], frames, 0, camera) == Counts(1, 1, 1, 0, 1, 1)
    assert count([left, twice], frames, 0, camera) == Counts(1, 1, 1, 1, 2, 1)
    assert count([left, hidden], frames, 0, camera) == Counts(1, 1, 1, 1, 1, 1)
    assert count([elsewhere], frames, 0, camera) == Counts(1, 0, 0, 0, 1, 0)
    assert count([], frames, 0, camera) == Counts(1)
