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

from poseren_ext.geometry.camera import CAMERAS, Camera
from poseren_ext.inference.hand_detection import HandDetection
from poseren_ext.models.detector import load_detector
from poseren_ext.models.hand_proposals import CELL, padded
from poseren_ext.models.hand_verifier import CUBE, HANDS, SIZE, HandVerifier, Verdict
from poseren_ext.synthetic.scenes import LEFT, NO_HAND, RIGHT, SceneFrames, SyntheticScenes, reduced
from tools.detector import crops, details
from tools.detector import frames as frames_module
from tools.detector import train as tool
from tools.detector.fitting import folded
from tools.detector.frames import Batch, box_centers, drawn, stored, taken
from tools.detector.measure import Counts, count
from tools.detector.targets import augmented, loss

FOCAL, DEPTH, ROWS, COLUMNS = 120.0, 600.0, 16, 20
LARGEST = -math.log(1e-4)  # of the focal loss of one cell: probabilities are limited to 1e-4


def one_hand(side: int = RIGHT, visible: float = 1.0) -> Batch:
    """A frame with a hand in the middle of the cell in row 6, column 9."""
    center = torch.tensor([[[(9.5 * CELL) - 0.5, (6.5 * CELL) - 0.5, DEPTH], [0.0, 0.0, 0.0]]])
    depth = torch.full((1, CELL * ROWS, CELL * COLUMNS), 900.0)
    sides, seen = torch.tensor([[side, NO_HAND]]), torch.tensor([[visible, 0.0]])
    return Batch(depth, torch.tensor([FOCAL]), center, center[:, :, None].clone(), sides, seen)


def perfect_maps(certainty: float = 20.0) -> torch.Tensor:
    """Maps that say exactly where the hand of `one_hand` is: [1, 4, ROWS, COLUMNS]."""
    maps = torch.full((1, 4, ROWS, COLUMNS), -certainty)
    maps[0, 0, 6, 9] = certainty
    maps[0, 1] = 9.5 - (torch.arange(COLUMNS) + 0.5)
    maps[0, 2] = 6.5 - (torch.arange(ROWS) + 0.5)[:, None]
    maps[0, 3] = math.log(DEPTH / 1000.0)
    return maps


def test_the_centre_is_the_middle_of_the_box_around_the_joints() -> None:
    xyz = torch.tensor([[-40.0, 10.0, 500.0], [60.0, -30.0, 560.0], [0.0, 90.0, 520.0]])
    uvd = torch.cat([FOCAL * xyz[:, :2] / xyz[:, 2:], xyz[:, 2:]], 1)
    expected = torch.tensor([FOCAL * 10.0 / 530.0, FOCAL * 30.0 / 530.0, 530.0])
    assert torch.allclose(box_centers(uvd, torch.tensor(FOCAL)), expected, atol=1e-4)


def test_the_loss_of_known_errors() -> None:
    assert float(loss(perfect_maps(), one_hand())) == pytest.approx(0.0, abs=1e-5)
    beside, deeper, missed, false = (perfect_maps() for _ in range(4))
    beside[0, 1] += 1.0  # one cell: CELL pixels at DEPTH
    assert float(loss(beside, one_hand())) == pytest.approx(0.15 * CELL * DEPTH / FOCAL / 20.0, rel=1e-4)
    deeper[0, 3] = math.log(1.1 * DEPTH / 1000.0)
    assert float(loss(deeper, one_hand())) == pytest.approx(0.15 * math.log(1.1) * DEPTH / 20.0, rel=1e-4)
    missed[0, 0, 6, 9] = -20.0
    assert float(loss(missed, one_hand())) == pytest.approx(LARGEST, rel=1e-3)
    false[0, 0, 14, 18] = 20.0
    assert float(loss(false, one_hand())) == pytest.approx(LARGEST, rel=1e-3)


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
    before = Batch(depth, torch.full((count_,), FOCAL), center, center[:, :, None], sides, torch.ones(count_, 2))
    after = augmented(before, torch.Generator().manual_seed(3))
    mirrored = []
    for i in range(count_):
        assert torch.equal(after.joints[i, :, 0], after.center[i])
        for u, v, d in after.center[i].tolist():
            assert float(after.depth[i, int(v), int(u)]) == pytest.approx(d, rel=1e-5)
        across, down = (after.center[i, 1] - after.center[i, 0])[:2].tolist()
        mirrored.append((across < 0) != (down < 0))
        assert after.side[i].tolist() == ([LEFT, RIGHT] if mirrored[-1] else [RIGHT, LEFT])
    assert {True, False} == set(mirrored)
    scale = after.center[:, 0, 2] / 500.0
    assert float(scale.min()) < 0.95
    assert float(scale.max()) > 1.05


@pytest.fixture(scope="module")
def rendered() -> Batch:
    return tool.render(128)


SHORT = {"precision": "float32", "compiled": False, "seed": 1}


def test_a_short_training_of_the_first_stage_lowers_the_loss(rendered: Batch, tmp_path: Path) -> None:
    out = tmp_path / "detector.safetensors"
    torch.manual_seed(0)
    before = tool.new_detector()
    tool.train_proposals(before, [rendered], 3.0, out, batch=8, rate=3e-2, **SHORT)
    after = load_detector(out)
    part = taken([rendered], torch.arange(32))
    part = replace(part, depth=part.depth.float())
    with torch.no_grad():
        untrained, trained = (
            float(loss(model.proposals(padded(part.depth), part.focal), part)) for model in (before, after)
        )
    assert trained < 0.95 * untrained
    for name, value in folded(before.verifier).state_dict().items():  # the other stage stays
        step = float(value.abs().max()) / 127  # of the largest weights of a file
        assert torch.allclose(after.verifier.state_dict()[name], value, atol=step), name


def test_a_short_training_of_the_second_stage_lowers_the_loss(rendered: Batch, tmp_path: Path) -> None:
    out, bundled = tmp_path / "detector.safetensors", load_detector(tool.BUNDLED_DETECTOR)
    torch.manual_seed(0)
    bundled.verifier = tool.new_detector().verifier
    tool.train_verifier(bundled, [rendered], 8.0, out, batch=32, rate=3e-3, **SHORT)
    sampler = crops.CropSampler(bundled.proposals, [rendered], torch.Generator().manual_seed(5))
    images, pitch, truth = sampler.crops(128)
    with torch.no_grad():
        untrained, trained = (
            float(crops.loss(model.verifier(images, pitch), truth.joints, truth))
            for model in (bundled, load_detector(out))
        )
    assert trained < 0.97 * untrained


def labelled(center: list[float], batch: Batch) -> crops.Labels:
    return crops.labels(torch.tensor([center]), batch)


def test_labels_of_crops_are_offsets_in_mm_from_the_nearest_hand_that_is_visible() -> None:
    u, v = 9.5 * CELL - 0.5, 6.5 * CELL - 0.5
    near = labelled([u - 8.0, v + 4.0, DEPTH - 20.0], one_hand(LEFT))
    mm = (DEPTH - 20.0) / FOCAL
    assert torch.allclose(near.offset[:, 0], torch.tensor([[8.0 * mm, -4.0 * mm, 20.0]]))
    assert torch.allclose(near.joints[:, :, 0], near.offset)
    assert [x[0].tolist() for x in (near.hand, near.weight)] == [[1, 0], [1, 1]]
    assert float(near.left[0, 0]) == 1.0
    between, far = (labelled([u, v, DEPTH + away], one_hand()) for away in (130.0, 160.0))
    assert [x[0].tolist() for x in (between.hand, between.weight)] == [[0, 0], [0, 1]]
    assert [x[0].tolist() for x in (far.hand, far.weight)] == [[0, 0], [1, 1]]
    for visible, weight in ((0.1, 0), (0.02, 1)):  # of a hand that hardly shows, and of one that does not
        hidden = labelled([u, v, DEPTH], one_hand(visible=visible))
        assert [x[0].tolist() for x in (hidden.hand, hidden.weight)] == [[0, 0], [weight, weight]]


@pytest.mark.parametrize(
    ("away", "hand", "weight"), [(150.0, [1, 1], [1, 1]), (230.0, [1, 0], [1, 0]), (300.0, [1, 0], [1, 1])]
)
def test_labels_of_crops_have_a_second_hand_beside_the_first(away: float, hand: list[int], weight: list[int]) -> None:
    one = one_hand(LEFT)
    center = one.center.clone()
    center[:, 1] = center[:, 0] + torch.tensor([0.0, 0.0, away])
    two = replace(one, center=center, side=torch.tensor([[LEFT, RIGHT]]), visible=torch.ones(1, 2))
    for first in (0, 1):  # the nearest is the first, whatever their order
        swapped = replace(two, **{name: getattr(two, name).flip(1) for name in ("center", "joints", "side", "visible")})
        found = labelled(center[0, 0].tolist(), (two, swapped)[first])
        assert [x[0].tolist() for x in (found.hand, found.weight, found.left)] == [hand, weight, [1, 0]]
        assert found.offset[0, :, 2].tolist() == [0.0, away]


def test_a_mirrored_and_turned_crop_moves_its_labels() -> None:
    offset, joints = torch.tensor([[[10.0, 20.0, 30.0]]]), torch.tensor([[[[1.0, 2.0, 3.0]]]])
    truth = crops.Labels(torch.ones(1, 1), torch.ones(1, 1), torch.zeros(1, 1), offset, joints)
    quarter_of_mirrored = torch.tensor([[[0.0, -1.0, 0.0], [-1.0, 0.0, 0.0]]])
    after = crops.moved(truth, quarter_of_mirrored, torch.tensor([True]))
    assert after.offset.tolist() == [[[-20.0, -10.0, 30.0]]]
    assert after.joints.tolist() == [[[[-2.0, -1.0, 3.0]]]]
    assert float(after.left) == 1.0


def test_sampled_crops_show_the_hand_at_its_label(rendered: Batch) -> None:
    detector = load_detector(tool.BUNDLED_DETECTOR)
    sampler = crops.CropSampler(detector.proposals, [rendered], torch.Generator().manual_seed(2))
    images, pitch, truth = sampler.crops(200)
    assert images.shape == (200, 2, SIZE, SIZE)
    assert pitch.shape == (200,)
    assert int(truth.hand[:, 0].sum()) == pytest.approx(90, abs=30)  # some centres are moved away from their hand
    assert 3 < int(truth.hand[:, 1].sum()) < 60
    assert 0.2 < float(truth.left[truth.hand > 0].mean()) < 0.8
    shown = []
    images = images[:, :1].expand(-1, HANDS, -1, -1).flatten(0, 1)
    for image, label, offset in zip(images, truth.hand.flatten(), truth.offset.flatten(0, 1), strict=True):
        column, row = ((offset[:2] / CUBE + 1) * (SIZE - 1) / 2).round().long().tolist()
        if label and 2 <= row < SIZE - 2 and 2 <= column < SIZE - 2:
            around = CUBE * image[row - 2 : row + 3, column - 2 : column + 3]
            shown.append(float((around - offset[2]).abs().amin()) < 60.0)  # a surface near the middle of the joints
    assert len(shown) > 50
    assert sum(shown) > 0.85 * len(shown)


def test_the_loss_of_crops_with_known_errors() -> None:
    there = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    truth = crops.Labels(there, torch.ones(2, 2), there, torch.zeros(2, 2, 3), torch.zeros(2, 2, 4, 3))
    sure = 60.0 * there - 30.0
    right, joints = Verdict(sure, sure, torch.zeros(2, 2, 3)), torch.zeros(2, 2, 4, 3)
    assert float(crops.loss(right, joints, truth)) == pytest.approx(0.0, abs=1e-5)
    away = right._replace(
        offset=torch.tensor([[[20.0, 0.0, -20.0], [500.0, 0.0, 0.0]], [[500.0, 0.0, 0.0], [500.0, 0.0, 0.0]]])
    )
    assert float(crops.loss(away, joints, truth)) == pytest.approx(0.1 * 2, rel=1e-5)
    other_side = right._replace(left=-sure)
    assert float(crops.loss(other_side, joints, truth)) == pytest.approx(0.2 * 30, rel=1e-5)
    assert float(crops.loss(right, joints + 10.0, truth)) == pytest.approx(0.03 * 10, rel=1e-5)
    wrong = right._replace(hand=-sure)
    assert float(crops.loss(wrong, joints, truth)) == pytest.approx(4 * 30.0 / 2, rel=1e-5)
    unsure = replace(truth, weight=torch.zeros(2, 2))
    assert float(crops.loss(wrong, joints, unsure)) == pytest.approx(0.0, abs=1e-5)


def test_folded_normalisations_change_no_result() -> None:
    torch.manual_seed(0)
    network = tool.new_detector().verifier.train()
    for _ in range(5):
        network(3 * torch.rand(16, 2, SIZE, SIZE), torch.rand(16))  # statistics
    network.eval()
    images, pitch = torch.rand(4, 2, SIZE, SIZE), torch.rand(4)
    plain = folded(network)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in plain.modules())
    assert set(plain.state_dict()) == set(HandVerifier().state_dict())
    with torch.no_grad():
        for one, other in zip(network(images, pitch), plain(images, pitch), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_rendered_frames_are_kept_for_other_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "frames.safetensors"
    monkeypatch.setattr(frames_module, "render", lambda *given: one_hand())
    (first,) = stored([path], 1)
    monkeypatch.setattr(frames_module, "render", lambda *given: pytest.fail("rendered again"))
    (again,) = stored([path], 1)
    assert all(torch.equal(a, b) for a, b in zip(vars(first).values(), vars(again).values(), strict=True))
    with pytest.raises(ValueError, match="holds 1 frames, 5 are wanted"):
        stored([path], 5)
    assert [len(part.depth) for part in stored([path, path], 1)] == [1, 1]


def test_frames_of_several_files_are_numbered_one_after_the_other() -> None:
    parts = [one_hand(), replace(one_hand(), focal=torch.tensor([7.0]))]
    assert taken(parts, torch.tensor([1, 0, 1])).focal.tolist() == [7.0, FOCAL, 7.0]


def test_things_are_drawn_as_often_as_asked_for() -> None:
    index = drawn(torch.tensor([1.0, 0.0, 2.0, 1.0]), 4000, torch.Generator().manual_seed(4))
    share = torch.bincount(index, minlength=4) / 4000
    assert share.tolist() == pytest.approx([0.25, 0.0, 0.5, 0.25], abs=0.03)
    assert float(share[1]) == 0.0


def test_detections_are_counted_once_and_hidden_hands_not_at_all() -> None:
    camera = Camera(476.0, 476.0, 320.0, 240.0, 640, 480)
    offsets = torch.tensor([[-60.0, 0.0, 0.0], [60.0, 0.0, 0.0], [0.0, 70.0, 20.0]])
    xyz = torch.stack([offsets + torch.tensor([x, 0.0, 500.0]) for x in (-150.0, 150.0)])[None]
    uvd = torch.cat([476.0 * xyz[..., :2] / xyz[..., 2:] + torch.tensor([320.0, 240.0]), xyz[..., 2:]], -1)
    sides, kind = torch.tensor([[LEFT, RIGHT]]), torch.zeros(1, dtype=torch.int64)
    frames = SceneFrames(torch.zeros(1, 480, 640), torch.zeros(1, 4), uvd, xyz, sides, torch.tensor([[1.0, 0.2]]), kind)

    def found(x: float, side: Literal["left", "right"] | None) -> HandDetection:
        nothing = np.zeros((480, 640), bool)
        elsewhere, middle = (0.0, 0.0, 2000.0), (476.0 * x / 510.0 + 320.0, 260.0, 510.0)
        return HandDetection(elsewhere, middle, side, 0.9, lambda: (nothing, nothing))

    left, twice, hidden, elsewhere = found(-150, "left"), found(-145, "right"), found(150, "left"), found(0, None)
    assert count([left], frames, 0, camera) == Counts(1, 1, 1, 1, 1, 1)
    assert count([twice], frames, 0, camera) == Counts(1, 1, 1, 0, 1, 1)
    assert count([left, twice], frames, 0, camera) == Counts(1, 1, 1, 1, 2, 1)
    assert count([left, hidden], frames, 0, camera) == Counts(1, 1, 1, 1, 1, 1)
    assert count([elsewhere], frames, 0, camera) == Counts(1, 0, 0, 0, 1, 0)
    assert count([], frames, 0, camera) == Counts(1)


def test_moves_are_those_of_the_centre_beyond_the_shift(monkeypatch: pytest.MonkeyPatch) -> None:
    camera = Camera(500.0, 500.0, 320.0, 240.0, 640, 480)
    frame = np.full((480, 640), 2000, np.uint16)
    frame[100:140, 200:240] = 500

    def corner(image: np.ndarray, camera: Camera, count: int) -> list[HandDetection]:
        rows, columns = (image == 500).nonzero()
        # Follows the frame to the right; lags 3 pixels, 3 mm at this distance, behind a shift down.
        center = (float(columns.min()), float(rows.min() - 3 * (rows.min() > 100)), 500.0)
        return [HandDetection(center, center, None, 0.9, lambda: (image > 0, image > 0))]

    monkeypatch.setattr(details, "find_hands", corner)
    assert details.moves(frame, camera) == [pytest.approx([0.0, 3.0], abs=1e-3)]
    monkeypatch.setattr(details, "find_hands", lambda image, *_: corner(image, camera, 2) if image is frame else [])
    assert details.moves(frame, camera) == [[math.inf, math.inf]]
    far = HandDetection((0.0, 0.0, 900.0), (0.0, 0.0, 900.0), None, 1.0, lambda: (frame > 0, frame > 0))
    monkeypatch.setattr(details, "find_hands", lambda image, *_: [far, *corner(image, camera, 2)])
    assert details.moves(frame, camera) == [[], pytest.approx([0.0, 3.0], abs=1e-3)]


def test_the_details_of_scenes_are_those_of_their_hands() -> None:
    scenes = SyntheticScenes(5, "test", camera=reduced(CAMERAS["sr305"], 4))
    lines = list(details.details(scenes, 32, 16))
    visible = scenes.frames(torch.arange(32)).visible
    for line, low, high in zip(lines, (0.3, 0.45, 0.6, 0.75), (0.45, 0.6, 0.75, 2.0), strict=False):
        assert line.startswith(f"visible {low:g} to")
        assert line.endswith(f"of {int(((visible >= low) & (visible < high)).sum())} hands")
    assert [line.split(":")[0].split(",")[0] for line in lines[4:]] == [
        "mm away 0 to 600",
        "mm away 600 to 900",
        "mm away 900 to 3000",
        "most certain detections",
        "all detections",
    ]
