# SPDX-License-Identifier: MIT
"""Scenes for hand detection: their hands, labels and files."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from helpers.command_line import exit_status

from poseren_ext.geometry.camera import CAMERAS
from poseren_ext.synthetic import scenes as scenes_module
from poseren_ext.synthetic import varied_sensor
from poseren_ext.synthetic.scenes import LEFT, NO_HAND, RIGHT, SCENE_KINDS, SceneFrames, SyntheticScenes, reduced

_CAMERA = reduced(CAMERAS["sr305"], 4)


@pytest.fixture(scope="module")
def frames() -> SceneFrames:
    return SyntheticScenes(5, "test", camera=_CAMERA).frames(torch.arange(256))


def test_every_kind_of_scene_has_as_many_hands_as_its_name_says(frames: SceneFrames) -> None:
    hands = (frames.side != NO_HAND).sum(1)
    for name, expected in {"empty": {0}, "one": {1}, "two": {2}}.items():
        assert set(hands[frames.kind == SCENE_KINDS.index(name)].tolist()) == expected
    others = frames.kind > SCENE_KINDS.index("two")
    assert set(hands[others].tolist()) == {1, 2}
    assert set(frames.kind.tolist()) == set(range(len(SCENE_KINDS)))


def test_sides_are_those_that_the_bent_fingers_show(frames: SceneFrames) -> None:
    """Fingers and thumb bend to the palm's side of the plane through the wrist and the knuckles."""
    for side, sign in ((RIGHT, 1.0), (LEFT, -1.0)):
        xyz = frames.xyz[frames.side == side]
        assert len(xyz) > 100
        wrist, index, pinky = (xyz[:, joint] for joint in (0, 1, 13))
        palm = torch.linalg.cross(index - wrist, pinky - wrist)
        bent = ((xyz[:, [2, 3, 4, 6, 7, 8, 17, 18]].mean(1) - wrist) * palm).sum(1)
        assert float((bent * sign > 0).float().mean()) > 0.95


def test_visible_joints_lie_just_behind_the_surface_that_the_camera_sees(frames: SceneFrames) -> None:
    uvd = frames.uvd[(frames.visible > 0.9) & (frames.side != NO_HAND)]
    number = ((frames.visible > 0.9) & (frames.side != NO_HAND)).nonzero()[:, 0]
    column, row = uvd[..., 0].round().long().clamp(0, 159), uvd[..., 1].round().long().clamp(0, 119)
    seen = frames.depth[number[:, None], row, column]
    behind = (uvd[..., 2] - seen)[seen > 0]
    assert float(((behind > -10) & (behind < 60)).float().mean()) > 0.9


def test_hands_that_are_hidden_or_outside_count_as_less_visible(frames: SceneFrames) -> None:
    alone, cluttered = (frames.kind == SCENE_KINDS.index(kind) for kind in ("one", "cluttered"))
    assert float(frames.visible[alone, 0].mean()) > float(frames.visible[cluttered, 0].mean())
    assert float(frames.visible[frames.side == NO_HAND].abs().max()) == 0.0
    assert float(frames.visible.max()) <= 1.0


def test_a_hand_without_depth_counts_as_hidden(frames: SceneFrames, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_blind(depth: torch.Tensor, *rest: Any) -> torch.Tensor:
        sensed = varied_sensor.sense_varied(depth, *rest)
        sensed[:, :, :80] = 0.0
        return sensed

    monkeypatch.setattr(scenes_module, "sense_varied", half_blind)
    blind = SyntheticScenes(5, "test", camera=_CAMERA).frames(torch.arange(256))
    left, right = ((half == 0.0).flatten(1).all(1) for half in (blind.depth[:, :, :80], blind.depth[:, :, 80:]))
    column = torch.where(right[:, None, None], 159.0 - frames.uvd[..., 0], frames.uvd[..., 0])  # mirrored frames
    there, margin = (frames.side != NO_HAND) & (left != right)[:, None], 25  # fingers are wider than their joints
    lost, kept = (there & place.all(2) for place in (column < 80 - margin, column > 80 + margin))
    assert int(lost.sum()) > 40
    assert int(kept.sum()) > 40
    assert float(blind.visible[lost].max()) == 0.0
    assert torch.equal(blind.visible[kept], frames.visible[kept])


def test_every_pixel_of_a_scene_is_a_number() -> None:
    # Each of these had a pixel whose ray is as steep as the side of a finger: its depth was NaN.
    scenes = SyntheticScenes(20272, "validation", camera=reduced(CAMERAS["sr305"], 2))
    assert scenes.frames(torch.tensor([61, 125])).depth.isfinite().all()


def test_a_scene_does_not_depend_on_its_batch_and_cameras_may_differ(frames: SceneFrames) -> None:
    alone = SyntheticScenes(5, "test", camera=_CAMERA).frames(torch.tensor([7]))
    torch.testing.assert_close(alone.depth[0], frames.depth[7], rtol=0, atol=0)
    torch.testing.assert_close(alone.uvd[0], frames.uvd[7])
    zoomed = SyntheticScenes(5, camera=_CAMERA, zoom=(0.8, 1.8)).frames(torch.arange(8))
    assert float(zoomed.camera[:, 0].std()) > 5
    with pytest.raises(ValueError, match="split is 'tests'"):
        SyntheticScenes(5, "tests")  # type: ignore[arg-type]


def test_render_writes_scenes_as_files_as_an_archive_and_as_a_picture(tmp_path: Path) -> None:
    for name in ("folder", "stack.npz", "sheet.png"):
        assert exit_status("render", tmp_path / name, "--scenes", "--frames", 6, "--camera", "icvl") == 0
    stack = np.load(tmp_path / "stack.npz")
    rows = list(csv.DictReader((tmp_path / "folder" / "hands.csv").open()))
    for i in range(6):
        image = cv2.imread(str(tmp_path / "folder" / f"depth/{i:06d}.png"), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(image, stack["depth"][i])
        own = [row for row in rows if row["frame"] == f"depth/{i:06d}.png"]
        assert {row["kind"] for row in own} == {stack["kind"][i]}
        written = [row["side"] for row in own if row["side"] != "none"]
        assert written == [side for side in stack["side"][i] if side != "none"]
        for row, uvd in zip(own, stack["uvd"][i], strict=False):
            if row["side"] != "none":
                assert float(row[f"{stack['joints'][1]}_u"]) == pytest.approx(uvd[1, 0], abs=1e-3)
    assert cv2.imread(str(tmp_path / "sheet.png")).std() > 10
    assert exit_status("render", tmp_path / "x.npz", "--scenes", "--sequence") == 2
