# SPDX-License-Identifier: MIT
"""The learnt hand detector: its decoding, its files, and what it finds in scenes and recorded frames."""

from __future__ import annotations

import warnings
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from poseren_ext import reference
from poseren_ext.geometry.camera import CAMERAS, Camera
from poseren_ext.inference import learnt_detection
from poseren_ext.inference.hand_detection import find_hands, presumed_hand
from poseren_ext.inference.learnt_detection import LEAST_SCORE, bundled_detector, first_pixels, learnt_hands, verified
from poseren_ext.models.detector import BUNDLED_DETECTOR, HandDetector, load_detector, save_detector
from poseren_ext.models.hand_proposals import CELL, ProposalNetwork
from poseren_ext.models.hand_verifier import CUBE, SIZE, SURROUNDINGS, HandVerifier, Verdict, verifier_crops
from poseren_ext.ops import normalize_pose
from poseren_ext.synthetic.scenes import NO_HAND, SCENE_KINDS, SyntheticScenes, reduced

_CAMERA = reduced(CAMERAS["sr305"], 4)
_RECALL, _FALSE = 0.8, 0.3


class _Maps(ProposalNetwork):
    """A first stage whose maps are given: score (logit), column, row (cells) and depth (mm) of each peak."""

    def __init__(self, peaks: tuple[tuple[float, float, float, float], ...]) -> None:
        super().__init__()
        self.maps = torch.full((1, 4, 30, 40), -9.0)
        for score, column, row, depth in peaks:
            u, v = int(column), int(row)
            for dv in (-1, 0, 1):
                for du in (-1, 0, 1):
                    offsets = [column - (u + du) - 0.5, row - (v + dv) - 0.5]
                    values = [score if du == dv == 0 else -9.0, *offsets, float(np.log(depth / 1000.0))]
                    self.maps[0, :, v + dv, u + du] = torch.tensor(values)

    def forward(self, depth: torch.Tensor, focal: torch.Tensor) -> torch.Tensor:
        return self.maps


class _Verdicts(HandVerifier):
    """A second stage with given verdicts on the proposals in the order of their scores: logit, side, offset.

    ``beside`` is the verdict on a second hand in each crop. The second half of the crops is mirrored.
    """

    def __init__(
        self,
        *rows: tuple[float, float, float, float, float],
        beside: tuple[float, float, float, float, float] = (-9.0, 0.0, 0.0, 0.0, 0.0),
    ) -> None:
        super().__init__()
        self.rows = torch.tensor([(row, beside) for row in rows])

    def forward(self, crops: torch.Tensor, pitch: torch.Tensor) -> Verdict:
        rows = self.rows[: len(crops) // 2]
        rows = torch.cat([rows, rows * torch.tensor([1.0, -1.0, -1.0, 1.0, 1.0])])
        return Verdict(rows[..., 0], rows[..., 1], rows[..., 2:])


def _decoded(
    *peaks: tuple[float, float, float, float], count: int = 2, seen: _Verdicts | None = None, least: float = LEAST_SCORE
) -> list[learnt_detection.LearntHand]:
    """Detections for peaks of the first stage; the second one agrees with them if nothing else is given."""
    camera = Camera(480.0, 480.0, 320.0, 240.0, 640, 480)
    agreed = [(peak[0], 0.0, 0.0, 0.0, 0.0) for peak in sorted(peaks, reverse=True)]
    detector = HandDetector(_Maps(peaks), seen or _Verdicts(*agreed))
    return learnt_hands(np.zeros((480, 640)), camera, count, 1.0, least, detector)


def test_a_peak_of_the_heat_map_becomes_a_centre_in_pixels_of_the_whole_frame() -> None:
    (hand,) = _decoded((3.0, 10.25, 20.75, 640.0))
    # A cell has 4 pixels of the reduced image, each of which is every fourth pixel of the frame.
    assert hand.center == pytest.approx(((10.25 * CELL - 0.5) * 4, (20.75 * CELL - 0.5) * 4, 640.0), rel=1e-3)
    assert hand.score == pytest.approx(1 / (1 + np.exp(-3.0)), rel=1e-4)


def test_the_second_look_moves_the_centre_by_mm_and_decides_on_score_and_side() -> None:
    peak = (1.0, 10.25, 20.75, 640.0)
    (hand,) = _decoded(peak, seen=_Verdicts((2.0, -2.0, 20.0, -8.0, 12.0)))
    u, v = (10.25 * CELL - 0.5) * 4, (20.75 * CELL - 0.5) * 4
    # 20 mm at a distance of 640 mm are 15 pixels of a camera with a focal length of 480.
    assert hand.center == pytest.approx((u + 15.0, v - 6.0, 652.0), rel=1e-4)
    assert hand.score == pytest.approx(1 / (1 + np.exp(-2.0)), rel=1e-4)
    sides = [_decoded(peak, seen=_Verdicts((2.0, left, 0.0, 0.0, 0.0)))[0].side for left in (-3.0, 3.0, 0.2)]
    assert sides == ["right", "left", None]
    assert _decoded(peak, seen=_Verdicts((-0.5, 0.0, 0.0, 0.0, 0.0))) == []


def test_detections_are_the_most_certain_first_and_two_peaks_of_one_hand_are_one() -> None:
    two = ((1.0, 10.2, 20.0, 640.0), (2.0, 30.6, 20.2, 650.0))
    assert [round(hand.center[2]) for hand in _decoded(*two)] == [650, 640]
    assert [round(hand.center[2]) for hand in _decoded(*two, count=1)] == [650]
    other_order = _Verdicts((0.5, 0.0, 0.0, 0.0, 0.0), (3.0, 0.0, 0.0, 0.0, 0.0))
    assert [round(hand.center[2]) for hand in _decoded(*two, seen=other_order)] == [640, 650]
    # 3 cells are 48 pixels of the frame: 30 mm at a distance of 300 mm, 100 mm at 1 m.
    assert len(_decoded((1.0, 10.2, 20.0, 300.0), (2.0, 13.2, 20.0, 300.0))) == 1
    assert len(_decoded((1.0, 10.2, 20.0, 1000.0), (2.0, 13.2, 20.0, 1000.0))) == 2


def test_the_second_look_may_find_a_hand_beside_the_proposal() -> None:
    peak, first = (1.0, 20.0, 15.0, 640.0), (2.0, -3.0, 0.0, 0.0, 0.0)
    hands = _decoded(peak, seen=_Verdicts(first, beside=(1.0, 3.0, 80.0, -40.0, 12.0)))
    assert [hand.side for hand in hands] == ["right", "left"]
    (u, v, d), beside = (hand.center for hand in hands)
    assert beside == pytest.approx((u + 60.0, v - 30.0, d + 12.0), rel=1e-4)
    near = _Verdicts(first, first, beside=(1.0, 3.0, 30.0, 0.0, 0.0))  # two hands of one proposal, though 30 mm apart
    assert [hand.side for hand in _decoded(peak, seen=near)] == ["right", "left"]
    again = _decoded(peak, (0.5, 20.5, 15.0, 640.0), count=9, seen=near)  # both once more, 11 mm away
    assert [hand.side for hand in again] == ["right", "left"]


def test_the_centre_moves_three_quarters_of_the_way_to_the_mean_of_the_surface() -> None:
    camera, frame = Camera(480.0, 480.0, 320.0, 240.0, 640, 480), np.zeros((480, 640))
    frame[200:281, 320:401] = 592.0  # its middle is at u 360, v 240: the joints are 8 mm behind
    peak = (3.0, (300 / 4 + 0.5) / CELL, (240 / 4 + 0.5) / CELL, 640.0)
    (hand,) = learnt_hands(frame, camera, 1, 1.0, detector=HandDetector(_Maps((peak,)), _Verdicts((3.0,) + (0.0,) * 4)))
    assert hand.middle == pytest.approx((300.0, 240.0, 640.0), rel=1e-4)
    assert hand.center[1:] == pytest.approx((240.0, 610.0), abs=1.0)
    assert 327 < hand.center[0] < 354  # points near the middle weigh more


def test_verdicts_are_the_means_of_two_looks_of_which_one_is_mirrored_and_at_the_pixels_between() -> None:
    torch.manual_seed(1)
    network, frame = bundled_detector().verifier, 900.0 - 400.0 * torch.rand(480, 640)
    camera, center = torch.tensor([[475.0, 480.0, 320.0, 240.0]]), torch.tensor([[301.0, 222.0, 640.0]])
    looks = [frame[None, first::2, first::2] for first in (0, 1)]
    assert first_pixels(2) == (0, 1)
    (row, beside) = verified(network, center, looks, camera, 2)
    verdicts = []
    for first, mirrored in ((0, False), (1, True)):
        small = torch.tensor([[(301.0 - first) / 2, (222.0 - first) / 2, 640.0]])
        transform = torch.tensor([[[-1.0 if mirrored else 1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
        edges = (CUBE, SURROUNDINGS)
        crops = [
            reference.depth_crop(looks[first], small, camera / 2, cube=edge, size=SIZE, transform=transform)
            for edge in edges
        ]
        verdicts.append(network(torch.cat(crops, 1), torch.tensor([640.0 * 2 / (475.0 * 480.0) ** 0.5]).log()))
    for k, hand in enumerate((row, beside)):
        one, other = ((v.hand[0, k], v.left[0, k], *v.offset[0, k]) for v in verdicts)
        score = ((one[0] + other[0]) / 2).sigmoid()
        x, y, z = (one[2] - other[2]) / 2, (one[3] + other[3]) / 2, (one[4] + other[4]) / 2
        expected = [score, (one[1] - other[1]) / 2, 301 + x * 475 / 640, 222 + y * 480 / 640, 640 + z]
        torch.testing.assert_close(
            hand, torch.stack([torch.as_tensor(value) for value in expected]), rtol=1e-4, atol=1e-3
        )


def test_weak_peaks_and_impossible_depths_are_no_hands() -> None:
    sure = _Verdicts((4.0, 0.0, 0.0, 0.0, 0.0))
    assert _decoded((4.0, 30.0, 10.0, 40.0), seen=sure) == []
    assert len(_decoded((-1.9, 10.0, 20.0, 640.0), seen=sure)) == 1
    assert _decoded((-3.5, 10.0, 20.0, 640.0), seen=sure) == []  # too weak to be looked at again


def test_the_second_look_sees_the_cube_and_what_is_around() -> None:
    depth = torch.full((1, 240, 320), 900.0)
    depth[:, 100:141, 140:181] = 600.0  # 102 mm at a distance of 600 mm
    center, camera = torch.tensor([[160.0, 120.0, 600.0]]), torch.tensor([[240.0, 240.0, 0.0, 0.0]])
    hand, around = verifier_crops(depth, center, camera)[0]
    assert hand.shape == (SIZE, SIZE)
    for crop, half_edge, behind in ((hand, CUBE, 1.0), (around, SURROUNDINGS, 300.0 / SURROUNDINGS)):
        near = int((crop.abs() < 1e-6).sum())  # at the centre's depth
        assert near == pytest.approx((51.0 * (SIZE - 1) / half_edge) ** 2, rel=0.15)
        assert float(crop[SIZE // 2, 2]) == pytest.approx(behind)


def test_a_saved_detector_computes_the_same_and_other_files_are_refused(tmp_path: Path) -> None:
    torch.manual_seed(0)
    random = HandDetector(ProposalNetwork((8, 16, 16)), HandVerifier((8, 16, 16)))
    save_detector(random, tmp_path / "rounded.safetensors")
    model = load_detector(tmp_path / "rounded.safetensors")
    for one, other in zip(random.parameters(), model.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=float(one.detach().abs().max()) / 2 / 127)
    save_detector(model, tmp_path / "a.safetensors")
    again = load_detector(tmp_path / "a.safetensors")
    depth, focal = 1500 * torch.rand(1, 64, 80), torch.tensor([119.0])
    torch.testing.assert_close(again.proposals(depth, focal), model.proposals(depth, focal))
    crops, pitch = torch.rand(3, 2, SIZE, SIZE), torch.rand(3)
    for one, other in zip(again.verifier(crops, pitch), model.verifier(crops, pitch), strict=True):
        torch.testing.assert_close(one, other)
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
        detections = find_hands(depth.round().numpy(), _CAMERA)
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
        hands, turned = (find_hands(f, c, 1) for f, c in ((frame, _CAMERA), (frame[:, ::-1], mirrored_camera)))
        if hands and turned:
            across = (159 - turned[0].center[0] - hands[0].center[0]) * hands[0].center[2] / _CAMERA.fx
            near = abs(across) < 30
            same, other = same + near, other + (not near)
    assert same >= 10
    assert other <= 0.2 * same


def test_one_pixel_of_shift_rarely_moves_a_near_hand_by_5_mm() -> None:
    scenes = SyntheticScenes(9, "test")
    camera, moves = scenes.camera, []
    for frame in scenes.frames(torch.arange(40)).depth.round().numpy():
        hands = find_hands(frame, camera, 1)
        if not hands or hands[0].center[2] > 800:
            continue
        u, v, d = hands[0].center
        for rows, columns in ((0, 1), (1, 0), (1, 1)):
            moved = cv2.copyMakeBorder(frame, rows, 0, columns, 0, cv2.BORDER_REPLICATE)[:480, :640]
            others = np.array([other.center for other in find_hands(moved, camera)]).reshape(-1, 3)
            away = np.abs((others - (u + columns, v + rows, d)) * (d / camera.fx, d / camera.fx, 1.0))
            moves.append(float(away.max(1).min(initial=np.inf)))
    assert len(moves) >= 40
    assert float((np.array(moves) < 5).mean()) > 0.75


def test_a_presumed_hand_is_the_best_detection_or_else_the_nearest_surface(monkeypatch: pytest.MonkeyPatch) -> None:
    frame = np.zeros((480, 640), np.float32)
    frame[160:280, 240:360] = 500
    camera = Camera(480.0, 480.0, 320.0, 240.0, 640, 480)
    peaks: dict[str, tuple[tuple[float, float, float, float], ...]] = {
        "both": ((3.0, 10.0, 8.0, 2700.0), (-1.0, 30.0, 20.0, 2600.0)),
        "doubtful": ((-1.0, 30.0, 20.0, 2600.0),),
        "none": (),
    }
    distances = []
    for given in peaks.values():
        agreed = [(peak[0], 0.0, 0.0, 0.0, 0.0) for peak in given]
        detector = HandDetector(_Maps(given), _Verdicts(*agreed))
        monkeypatch.setattr(learnt_detection, "fastest_detector", lambda found=detector: found)
        hand = presumed_hand(frame, camera)
        assert hand is not None
        distances.append(round(hand.center[2]))
        assert (find_hands(frame, camera) != []) == (given is peaks["both"])
    assert distances == [2700, 2600, 500]
    assert presumed_hand(np.zeros((480, 640), np.float32), camera) is None


def test_a_lower_threshold_finds_doubtful_hands_too() -> None:
    peaks = ((3.0, 10.0, 8.0, 500.0), (-1.0, 30.0, 20.0, 500.0))  # scores of 0.95 and 0.27
    found = [[round(hand.score, 2) for hand in _decoded(*peaks, least=least)] for least in (LEAST_SCORE, 0.25, 0.28)]
    assert found == [[0.95], [0.95, 0.27], [0.95]]


def test_frames_that_are_not_writable_and_units_of_any_kind_of_number_are_taken() -> None:
    camera = reduced(CAMERAS["sr305"], 2)
    frame = SyntheticScenes(5, "test", camera=camera).frames(torch.arange(1)).depth[0].round().numpy()
    expected = [hand.center for hand in find_hands(frame, camera)]
    assert expected
    stored = (8 * frame).astype(np.uint16)
    stored.flags.writeable = False
    torch.set_warn_always(True)  # it warns of such arrays once per process
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            for unit in (0.125, np.float32(0.125), Fraction(1, 8), torch.tensor(0.125)):
                found = find_hands(stored, camera, depth_unit=unit)  # type: ignore[arg-type]
                assert [hand.center for hand in found] == [pytest.approx(center, abs=1e-2) for center in expected]
    finally:
        torch.set_warn_always(False)
