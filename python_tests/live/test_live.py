# SPDX-License-Identifier: MIT
"""The frame loop: tracks a hand, detects when tracking fails, and survives invalid frames."""

import json

import numpy as np
import pytest
import torch
from helpers.live_frames import CAMERA, mirrored, moving, still

from poseren_ext import Estimator
from poseren_ext.io.depth_files import find_frames
from poseren_ext.live import LiveEstimator, Recorder, RecordingSource, StreamFrame, Tracker, result_line
from poseren_ext.live.frames import FrameGate, UnusableFrameError

EMPTY = np.zeros((240, 320), np.uint16)


@pytest.fixture(scope="module")
def estimator():
    return Estimator("demo", camera=CAMERA)


def steps(live, frames, first=0):
    return [live.step(StreamFrame(depth, first + i)) for i, depth in enumerate(frames)]


def test_a_hand_is_detected_once_and_then_followed(estimator):
    live = LiveEstimator(estimator)
    frames = moving(12)
    results = steps(live, frames)
    assert [result.outcome for result in results] == ["detected"] + ["tracked"] * 11
    for result, depth in zip(results, frames, strict=True):
        truth = estimator(torch.from_numpy(depth))  # the same hand, detected
        assert float((result.pose.joints - truth.joints).norm(dim=-1).mean()) < 12
        assert float((result.pose.center - truth.center)[:2].norm()) < 2
    assert live.statistics.poses == 12
    assert live.statistics.rate > 0
    assert 0 < live.statistics.latency(50) <= live.statistics.latency(99)


def test_tracking_starts_from_the_last_pose(estimator, monkeypatch):
    live = LiveEstimator(estimator)
    (first,) = steps(live, moving(1))
    given = []
    call = Estimator.__call__

    def spy(self, depth, **options):
        given.append(options)
        return call(self, depth, **options)

    monkeypatch.setattr(Estimator, "__call__", spy)
    steps(live, [np.roll(still(), 6, axis=1)], first=1)
    (options,) = given
    moved = options["init_pose"] - first.pose.uvd
    assert torch.allclose(moved[:, 0], torch.full_like(moved[:, 0], 6), atol=0.5)  # with the centre of mass
    assert moved[:, 1:].abs().max() < 1
    live = LiveEstimator(estimator, track=False)
    given.clear()
    assert [result.outcome for result in steps(live, moving(3))] == ["detected"] * 3
    assert [options["return_stages"] for options in given] == [False] * 3
    assert not any("init_pose" in options for options in given)


def test_lost_where_the_hand_has_left_its_cube(estimator):
    live = LiveEstimator(estimator)
    far = np.roll(still(), 110, axis=1)
    results = steps(live, [*moving(3), far, EMPTY + 3000, *moving(2)])
    assert [result.outcome for result in results] == [
        *("detected", "tracked", "tracked", "detected", "no hand", "detected", "tracked")
    ]
    assert results[3].reason == "no hand where it was"
    assert results[4].reason == "no hand"


def test_lost_where_the_joints_leave_the_surface_or_bones_stretch(estimator, monkeypatch):
    tracker = Tracker(estimator)
    frames = torch.from_numpy(moving(6))
    tracker.estimate(frames[0])
    assert tracker.estimate(frames[1]).mode == "tracked"
    monkeypatch.setattr(Estimator, "surface_gap", lambda self, depth, uvd: torch.tensor([31.0]))
    assert (tracker.estimate(frames[2]).lost, tracker.estimate(frames[3]).mode) == (
        "the joints do not fit the surface",
        "detected",
    )
    monkeypatch.undo()
    tracker._bones.extend([100.0] * 30)
    assert tracker.estimate(frames[4]).lost == "the bones changed their length"
    assert tracker.estimate(frames[5]).mode == "tracked"


def test_a_gap_tells_a_pose_that_is_elsewhere(estimator):
    depth = torch.from_numpy(still())[None]
    pose = estimator(depth)
    shift = torch.tensor([0.0, 0.0, 60.0])
    assert float(estimator.surface_gap(depth, pose.uvd)) < 20
    assert float(estimator.surface_gap(depth, pose.uvd - shift)) > 30
    assert float(estimator.surface_gap(depth, pose.uvd + torch.tensor([120.0, 0.0, 0.0]))) > 30


def test_looks_for_the_hand_now_and_then(estimator):
    # Both at once: the tracked one is hidden step by step, and another hand is nearer.
    first, second = np.roll(still(), -70, axis=1), np.roll(still(), 70, axis=1)
    nearer = np.where(second > 0, second - 60, 0).astype(np.uint16)
    both = [np.where(nearer > 0, nearer, first) + np.uint16(i % 2) * (first > 0) for i in range(6)]
    live = LiveEstimator(estimator, recheck=4)
    results = steps(live, [first, *both])
    assert [result.outcome for result in results].index("detected", 1) == 4
    assert results[4].reason == "a hand was found elsewhere"
    never = steps(LiveEstimator(estimator, recheck=0), [first, *both])
    assert {result.outcome for result in never[1:]} == {"tracked"}
    with pytest.raises(ValueError, match="recheck"):
        Tracker(estimator, recheck=-1)


def test_left_and_right_hands():
    live = LiveEstimator(Estimator("demo", camera=CAMERA, hand="auto"))
    results = steps(live, [*moving(3), EMPTY, mirrored(), np.roll(mirrored(), 3, axis=1)])
    hands = [result.pose and result.pose.hand[0] for result in results]
    assert hands[:4] == ["right", "right", "right", None]
    assert hands[4] == hands[5] == "left"


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        (EMPTY, "no depth"),
        (np.full((240, 320), np.nan, np.float32), "no depth"),
        (np.full((240, 320), -np.inf, np.float32), "no depth"),
        (np.full((120, 160), 500, np.uint16), "resized"),
        (np.full((240, 320, 3), 90, np.uint8), "not a depth frame"),
        (np.full((240, 320), 90, np.uint8), "not a depth frame"),
        (np.zeros((0, 0), np.uint16), "not a depth frame"),
        (np.array(["a"]), "not a depth frame"),
        (None, "not a depth frame"),
    ],
)
def test_frames_that_are_none_are_skipped_and_tracking_goes_on(estimator, bad, reason):
    live = LiveEstimator(estimator)
    before, after = moving(2)
    results = steps(live, [before, bad, after])
    assert [result.outcome for result in results] == ["detected", "skipped", "tracked"]
    assert results[1].reason == reason
    assert results[1].detail
    assert results[1].pose is None
    assert live.statistics.reasons == {reason: 1}


def test_partly_nan_frames_are_worked_on(estimator):
    depth = still().astype(np.float32)
    depth[depth == 0] = np.nan
    depth[::7] = np.inf
    assert steps(LiveEstimator(estimator), [depth])[0].outcome == "detected"


def test_repeated_and_dropped_frames(estimator):
    live = LiveEstimator(estimator)
    a, b, c = moving(3)
    outcomes = [live.step(StreamFrame(depth, number)) for depth, number in ((a, 1), (b, 1), (a, 2), (b, 6), (c, 3))]
    assert [result.reason for result in outcomes] == ["", "repeated", "repeated", "", ""]
    assert live.statistics.dropped == 3  # 3, 4, 5; a camera that counts backwards was restarted
    assert live.statistics.outcomes["skipped"] == 2


def test_a_reused_buffer_is_no_repetition():
    gate, buffer = FrameGate(), still()
    gate.check(StreamFrame(buffer, 0))
    buffer += 1
    gate.check(StreamFrame(buffer, 1))
    with pytest.raises(UnusableFrameError, match="same pixels"):
        gate.check(StreamFrame(buffer, 2))


def test_wrong_unit_and_camera(estimator):
    metres = LiveEstimator(estimator)
    (result,) = steps(metres, [still().astype(np.float32) / 1000])
    assert (result.outcome, result.reason) == ("no hand", "no depth in this unit")
    with pytest.raises(ValueError, match="the camera's are 320x240"):
        steps(LiveEstimator(estimator), [np.full((480, 640), 500, np.uint16)])


def test_memory_of_a_long_stream_is_bounded(estimator):
    live = LiveEstimator(estimator)
    steps(live, [EMPTY] * 2000)
    statistics = live.statistics
    assert statistics.frames == statistics.reasons["no depth"] == 2000
    assert len(statistics._ends) == 300
    assert statistics.latency(50) == 0


def test_a_recording_plays_again(estimator, tmp_path):
    live = LiveEstimator(estimator)
    frames = [*moving(3), EMPTY, *moving(3)[1:]]
    with Recorder(tmp_path / "session", CAMERA, 1.0) as recorder:
        for result in steps(live, frames):
            recorder.write(result)
    names = sorted(path.name for path in (tmp_path / "session").iterdir())
    assert names == [*(f"{i:06d}.png" for i in range(5)), "poses.jsonl", "recording.json"]
    lines = [json.loads(line) for line in (tmp_path / "session" / "poses.jsonl").read_text().splitlines()]
    assert [line["outcome"] for line in lines] == ["detected", "tracked", "tracked", "skipped", "tracked", "tracked"]
    assert lines[3] == {"frame": 3, "outcome": "skipped", "reason": "no depth"}
    assert lines[4]["file"] == "000003.png"
    assert np.shape(lines[0]["uvd"]) == np.shape(lines[0]["xyz"]) == (21, 3)
    source = RecordingSource([tmp_path / "session"])
    assert (source.camera, source.depth_unit) == (CAMERA, 1.0)
    again = LiveEstimator(estimator)
    played = [result for result in again.run(source) if result.pose is not None]
    recorded = [line for line in lines if "uvd" in line]
    for result, line in zip(played, recorded, strict=True):
        np.testing.assert_allclose(result.pose.uvd, line["uvd"], atol=0.01)
    with pytest.raises(FileExistsError, match="new folder"):
        Recorder(tmp_path / "session", CAMERA, 1.0)


def test_float_frames_are_recorded_as_they_are(estimator, tmp_path):
    with Recorder(tmp_path, CAMERA, 1.0) as recorder:
        for result in steps(LiveEstimator(estimator), [still().astype(np.float32)]):
            recorder.write(result)
    (frame,) = find_frames([tmp_path])
    assert frame.read().dtype == np.float32


def test_result_lines_are_short_and_complete(estimator):
    (result,) = steps(LiveEstimator(estimator), [still()])
    line = result_line(result, file="x.png")
    assert "\n" not in line
    assert set(json.loads(line)) == {"frame", "outcome", "file", "hand", "uvd", "xyz", "latency_ms"}
