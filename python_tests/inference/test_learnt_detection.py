# SPDX-License-Identifier: MIT
"""The learnt hand detector: its decoding, its files, and what it finds in scenes and recorded frames."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from poseren_ext.geometry.camera import CAMERAS, Camera
from poseren_ext.inference import learnt_detection
from poseren_ext.inference.hand_detection import find_hands
from poseren_ext.inference.learnt_detection import learnt_hands
from poseren_ext.models.detector import BUNDLED_DETECTOR, CELL, HandDetector, load_detector, save_detector
from poseren_ext.ops import normalize_pose
from poseren_ext.synthetic.scenes import NO_HAND, SCENE_KINDS, SyntheticScenes, reduced

_CAMERA = reduced(CAMERAS["sr305"], 4)
_RECALL, _FALSE = 0.8, 0.3


class _Maps(HandDetector):
    """A detector whose maps are given."""

    def __init__(self, peaks: tuple[tuple[float, float, float, float, float], ...]) -> None:
        super().__init__()
        self.maps = torch.full((1, 5, 30, 40), -9.0)
        for score, left, column, row, depth in peaks:
            u, v = int(column), int(row)
            for dv in (-1, 0, 1):
                for du in (-1, 0, 1):
                    offsets = [column - (u + du) - 0.5, row - (v + dv) - 0.5]
                    values = [score if du == dv == 0 else -9.0, left, *offsets, float(np.log(depth / 1000.0))]
                    self.maps[0, :, v + dv, u + du] = torch.tensor(values)

    def forward(self, depth: torch.Tensor, focal: torch.Tensor) -> torch.Tensor:
        return self.maps


def _decoded(*peaks: tuple[float, float, float, float, float], count: int = 2) -> list[learnt_detection.LearntHand]:
    """Detections for peaks of score and left hand (logits), column, row (cells) and depth (mm)."""
    camera = Camera(480.0, 480.0, 320.0, 240.0, 640, 480)
    return learnt_hands(np.zeros((480, 640)), camera, count, 1.0, detector=_Maps(peaks))


def test_a_peak_of_the_heat_map_becomes_a_centre_in_pixels_of_the_whole_frame() -> None:
    (hand,) = _decoded((3.0, 2.0, 10.25, 20.75, 640.0))
    # A cell has 4 pixels of the reduced image, each of which is every fourth pixel of the frame.
    assert hand.center == pytest.approx(((10.25 * CELL - 0.5) * 4, (20.75 * CELL - 0.5) * 4, 640.0), rel=1e-3)
    assert hand.side == "left"
    assert hand.score == pytest.approx(1 / (1 + np.exp(-3.0)), rel=1e-4)


def test_detections_are_the_most_certain_first_and_two_peaks_of_one_hand_are_one() -> None:
    hands = _decoded((1.0, 2.0, 10.2, 20.0, 640.0), (2.0, -2.0, 30.6, 20.2, 650.0))
    assert [hand.side for hand in hands] == ["right", "left"]
    assert len(_decoded((1.0, 2.0, 10.2, 20.0, 640.0), (2.0, -2.0, 30.6, 20.2, 650.0), count=1)) == 1
    # 3 cells are 48 pixels of the frame: 30 mm at a distance of 300 mm, 100 mm at 1 m.
    assert len(_decoded((1.0, 2.0, 10.2, 20.0, 300.0), (2.0, 2.0, 13.2, 20.0, 300.0))) == 1
    assert len(_decoded((1.0, 2.0, 10.2, 20.0, 1000.0), (2.0, 2.0, 13.2, 20.0, 1000.0))) == 2


def test_weak_peaks_and_impossible_depths_are_no_hands() -> None:
    assert _decoded((-1.5, 1.0, 10.0, 20.0, 640.0), (4.0, 1.0, 30.0, 10.0, 40.0)) == []


def test_a_saved_detector_computes_the_same_and_other_files_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = HandDetector((8, 16, 16))
    for parameter in model.parameters():
        parameter.data = parameter.half().float()
    save_detector(model, tmp_path / "a.safetensors")
    depth, focal = 1500 * torch.rand(1, 64, 80), torch.tensor([119.0])
    torch.testing.assert_close(load_detector(tmp_path / "a.safetensors")(depth, focal), model(depth, focal))
    (tmp_path / "b.safetensors").write_bytes((tmp_path / "a.safetensors").read_bytes()[:5000])
    for name, message in (("b.safetensors", "holds no hand detector"), ("c.safetensors", "no detector file")):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            load_detector(tmp_path / name)
    with pytest.raises(ValueError, match="its format is 'poseren_ext'"):
        load_detector(BUNDLED_DETECTOR.with_name("demo.safetensors"))


@pytest.fixture(scope="module")
def scenes():
    return SyntheticScenes(9, "test", camera=_CAMERA).frames(torch.arange(160))


def test_finds_most_hands_of_scenes_and_few_other_things(scenes) -> None:
    hands = found = false = 0
    for i, depth in enumerate(scenes.depth):
        detections = find_hands(depth.round().numpy(), _CAMERA, method="learnt")
        held = torch.zeros(len(detections), dtype=torch.bool)
        for hand in (scenes.side[i] != NO_HAND).nonzero()[:, 0]:
            if not detections:
                continue
            centers = torch.tensor([one.center for one in detections])
            pose = normalize_pose(scenes.uvd[i, hand].expand(len(centers), -1, -1), centers, _CAMERA)
            holds = (pose.abs() <= 1).all(-1).all(-1)
            held |= holds
            if scenes.visible[i, hand] > 0.5:
                found += bool(holds.any())
        hands += int(((scenes.visible[i] > 0.5) & (scenes.side[i] != NO_HAND)).sum())
        false += int((~held).sum())
    assert found / hands > _RECALL
    assert false / max(found, 1) < _FALSE


def test_a_frame_gives_the_same_hands_alone_and_in_any_batch(scenes) -> None:
    frames = list(scenes.depth[:12].round().numpy())
    alone = [find_hands(frame, _CAMERA) for frame in frames]
    assert sum(map(len, alone)) >= 8
    order = [7, 3, 11, 0, 5]
    assert find_hands([frames[i] for i in order], _CAMERA) == [alone[i] for i in order]
    assert find_hands(np.stack(frames), _CAMERA) == alone
    assert find_hands(torch.from_numpy(np.stack(frames[:4])).to(torch.uint16), _CAMERA) == alone[:4]


def test_the_centre_mirrors_with_the_frame(scenes) -> None:
    mirrored_camera = replace(_CAMERA, cx=159 - _CAMERA.cx)
    same = other = 0
    for i in (scenes.kind == SCENE_KINDS.index("one")).nonzero()[:, 0].tolist():
        frame = scenes.depth[i].round().numpy()
        hands, turned = (
            find_hands(f, c, 1, method="learnt") for f, c in ((frame, _CAMERA), (frame[:, ::-1], mirrored_camera))
        )
        if hands and turned:
            across = (159 - turned[0].center[0] - hands[0].center[0]) * hands[0].center[2] / _CAMERA.fx
            near = abs(across) < 30
            same, other = same + near, other + (not near)
    assert same >= 10
    assert other <= 0.2 * same


def test_one_pixel_of_shift_rarely_moves_a_near_hand_by_5_mm() -> None:
    scenes = SyntheticScenes(9, "test")
    camera, moves = scenes.camera, []
    for frame in scenes.frames(torch.arange(14)).depth.round().numpy():
        hands = find_hands(frame, camera, 1, method="learnt")
        if not hands or hands[0].score < 0.5 or hands[0].center[2] > 800:
            continue
        u, v, d = hands[0].center
        for rows, columns in ((0, 1), (1, 0), (1, 1)):
            moved = cv2.copyMakeBorder(frame, rows, 0, columns, 0, cv2.BORDER_REPLICATE)[:480, :640]
            other = find_hands(moved, camera, 1, method="learnt")[0].center
            across = np.array([other[0] - u - columns, other[1] - v - rows]) * d / camera.fx
            moves.append(max(float(np.hypot(*across)), abs(other[2] - d)))
    assert len(moves) >= 9
    assert float((np.array(moves) < 5).mean()) > 0.8


def test_where_the_network_finds_no_hand_the_surface_method_answers() -> None:
    frame = np.zeros((120, 160), np.float32)
    frame[40:70, 60:90] = 500
    camera = Camera(119.0, 119.0, 79.5, 59.5)
    (hand,) = find_hands(frame, camera)
    assert hand == find_hands(frame, camera, method="surface")[0] or find_hands(frame, camera, method="learnt")
    assert find_hands(np.zeros((120, 160), np.float32), camera) == []


def test_a_lower_threshold_finds_doubtful_hands_too() -> None:
    camera = Camera(480.0, 480.0, 320.0, 240.0, 640, 480)
    maps = _Maps(((3.0, 0.0, 10.0, 8.0, 500.0), (-1.0, 0.0, 30.0, 20.0, 500.0)))  # scores of 0.95 and 0.27
    found = [
        [round(hand.score, 2) for hand in learnt_hands(np.zeros((480, 640)), camera, 2, 1.0, *given, detector=maps)]
        for given in ((), (0.25,), (0.28,))
    ]
    assert found == [[0.95], [0.95, 0.27], [0.95]]
