# SPDX-License-Identifier: MIT
"""The frame loop: tracks hands, starts from Init-CNN when tracking fails, and survives invalid frames."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.live_frames import CAMERA, moving, still, two_hands

from poseren_ext import Estimator
from poseren_ext.inference.hand_detection import find_hands
from poseren_ext.io.depth_files import find_frames
from poseren_ext.live import HandTracker, LiveEstimator, Recorder, RecordingSource, StreamFrame
from poseren_ext.live.frames import FrameGate, UnusableFrameError

pytestmark = pytest.mark.usefixtures("surface_detection")

EMPTY = np.zeros((240, 320), np.uint16)


@pytest.fixture(scope="module")
def estimator():
    return Estimator("demo", camera=CAMERA)


def steps(live, frames, first=0):
    """Results of the frames at 30 frames per second."""
    return [live.step(StreamFrame(depth, first + i, time=(first + i) / 30)) for i, depth in enumerate(frames)]


def test_a_hand_is_detected_once_and_then_followed(estimator):
    live = LiveEstimator(estimator, smoothing=None)
    frames = moving(12)
    results = steps(live, frames)
    assert [result.outcome for result in results] == ["detected"] + ["tracked"] * 11
    for result, depth in zip(results, frames, strict=True):
        truth = estimator(torch.from_numpy(depth))  # the same hand, detected
        (hand,) = result.hands
        assert hand.track == 1
        assert float((hand.pose.joints - truth.joints).norm(dim=-1).mean()) < 12
        assert float((hand.pose.center - truth.center)[:2].norm()) < 2
    assert live.statistics.poses == live.statistics.hands == 12
    assert live.statistics.rate > 0
    assert 0 < live.statistics.latency(50) <= live.statistics.latency(99)


def test_tracking_starts_from_the_last_pose(estimator, monkeypatch):
    live = LiveEstimator(estimator, smoothing=None)
    (first,) = steps(live, moving(1))
    given = []
    call = Estimator.__call__

    def spy(self, depth, **options):
        given.append(options)
        return call(self, depth, **options)

    monkeypatch.setattr(Estimator, "__call__", spy)
    steps(live, [np.roll(still(), 6, axis=1)], first=1)
    (options,) = given
    moved = options["init_pose"] - first.hands[0].pose.uvd
    assert torch.allclose(moved[:, 0], torch.full_like(moved[:, 0], 6), atol=0.5)  # with the detected centre
    assert moved[:, 1:].abs().max() < 1


def test_a_hand_that_jumps_by_its_length_is_the_same_when_it_stays_there(estimator):
    live = LiveEstimator(estimator)
    elsewhere = [np.roll(still(), 110, axis=1) + np.uint16(i) * (np.roll(still(), 110, axis=1) > 0) for i in range(4)]
    results = steps(live, [*moving(5), *elsewhere, EMPTY + 3000, *moving(2)])
    tracks = [[hand.track for hand in result.hands] for result in results]
    assert tracks[:9] == [[1]] * 5 + [[], [], [1], [1]]
    assert results[5].outcome == results[9].outcome == "no hand"
    assert results[5].reason == "no hand"


def test_init_cnn_runs_again_where_the_joints_leave_the_surface_or_bones_stretch(estimator, monkeypatch):
    tracker = HandTracker(estimator)
    frames = torch.from_numpy(moving(6))
    found = [tracker.estimate(frames[i], i / 30)[0] for i in (0, 1)]
    assert [hand.mode for hand in found] == ["detected", "tracked"]
    for i, (fresh, outcome) in enumerate(
        [(30.0, ("detected", "the joints do not fit the surface")), (32.0, ("tracked", ""))], start=2
    ):
        gaps = iter([31.0, fresh, 31.0])  # of the last pose, of the Init-CNN's, and of the last one again
        monkeypatch.setattr(Estimator, "surface_gap", lambda self, depth, uvd, gaps=gaps: torch.tensor([next(gaps)]))
        (hand,) = tracker.estimate(frames[i], i / 30)
        assert (hand.mode, hand.reason) == outcome
    monkeypatch.undo()
    tracker._memories[1].bones.extend([100.0] * 30)
    (hand,) = tracker.estimate(frames[4], 4 / 30)
    assert (hand.mode, hand.reason) == ("detected", "the bones changed their length")
    (hand,) = tracker.estimate(frames[5], 5 / 30)
    assert (hand.mode, hand.track) == ("tracked", 1)


def test_a_gap_tells_a_pose_that_is_elsewhere(estimator):
    depth = torch.from_numpy(still())[None]
    pose = estimator(depth)
    shift = torch.tensor([0.0, 0.0, 80.0])
    assert float(estimator.surface_gap(depth, pose.uvd)) < 20
    assert float(estimator.surface_gap(depth, pose.uvd - shift)) > 30
    assert float(estimator.surface_gap(depth, pose.uvd + torch.tensor([120.0, 0.0, 0.0]))) > 30


def test_two_hands_have_their_own_tracks_and_sides():
    live = LiveEstimator(Estimator("demo", camera=CAMERA, hand="auto"), max_hands=2)
    results = steps(live, two_hands(8))
    sides = [{hand.track: hand.pose.hand[0] for hand in result.hands} for result in results]
    assert len(sides[0]) == 2
    assert set(sides[0].values()) == {"left", "right"}
    assert sides == [sides[0]] * 8
    certain = [result.hands[0].side_probability for result in results]
    assert certain == sorted(certain)
    assert certain[0] < 0.8
    assert certain[-1] > 0.96
    with pytest.raises(ValueError, match="max_hands is 0"):
        HandTracker(live.estimator, max_hands=0)


def test_a_detection_with_a_low_score_continues_a_track_and_starts_none(estimator, monkeypatch):
    def uncertain(depth, camera, max_hands, *, score_threshold=1.0, **options):
        found = find_hands(depth, camera, max_hands, method="surface", **options)
        return [replace(hand, score=0.2) for hand in found if score_threshold <= 0.2]

    frames = moving(5)
    live, other = LiveEstimator(estimator), LiveEstimator(estimator)
    steps(live, frames[:2])
    monkeypatch.setattr("poseren_ext.live.tracking.find_hands", uncertain)
    results = steps(live, frames[2:], first=2)
    assert [(hand.track, hand.mode) for result in results for hand in result.hands] == [(1, "tracked")] * 3
    assert {hand.score for result in results for hand in result.hands} == {0.2}
    assert [result.hands for result in steps(other, frames)] == [()] * 5


def test_of_two_poses_on_one_hand_that_with_the_more_certain_detection_is_kept(monkeypatch):
    frames = two_hands(3)
    live = LiveEstimator(Estimator("demo", camera=CAMERA, hand="right"), max_hands=2)
    first = steps(live, frames[:1])[0].hands
    call = Estimator.__call__
    onto = first[1].pose.center.clone()
    with monkeypatch.context() as patch:
        patch.setattr(Estimator, "__call__", lambda self, depth, center, **_: call(self, depth, center=onto))
        (hand,) = steps(live, frames[1:2], first=1)[0].hands
    assert hand.track == first[1].track
    again = steps(live, frames[2:], first=2)[0].hands
    assert [(hand.track, hand.mode) for hand in again] == [(first[0].track, "detected"), (first[1].track, "tracked")]


def test_a_few_frames_that_look_like_the_other_side_do_not_change_it(estimator, monkeypatch):
    live = LiveEstimator(Estimator("demo", camera=CAMERA, hand="auto"))
    frames = moving(40, step=1)
    steps(live, frames[:6])
    call = Estimator.__call__
    compared = []

    def other_side_twice(self, depth, **options):
        pose = call(self, depth, **options)
        if self.hand != "auto":
            return pose
        compared.append(True)
        return replace(pose, hand=("left",)) if len(compared) < 3 else pose

    monkeypatch.setattr(Estimator, "__call__", other_side_twice)
    results = steps(live, frames[6:], first=6)
    assert len(compared) > 2  # the sides are compared again now and then
    assert {result.hands[0].pose.hand[0] for result in results} == {"right"}


def test_smoothing_reduces_the_noise_of_a_still_hand(estimator):
    random = np.random.default_rng(0)
    noisy = [still() + random.integers(0, 9, still().shape).astype(np.uint16) * (still() > 0) for _ in range(12)]

    def jitter(smoothing):
        live = LiveEstimator(estimator, **smoothing)
        joints = np.stack([result.hands[0].pose.joints for result in steps(live, noisy)])
        uvd = np.stack([result.hands[0].pose.uvd for result in steps(LiveEstimator(estimator, **smoothing), noisy)])
        assert np.abs(uvd[..., 2] - joints[..., 2]).max() < 1e-3
        return np.sqrt((np.diff(joints, 2, axis=0) ** 2).mean())

    assert jitter({}) < 0.6 * jitter({"smoothing": None})


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
    assert results[1].hands == ()
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
    with pytest.raises(ValueError, match="belong to about 320x240"):
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
    assert (lines[3]["outcome"], lines[3]["reason"], "file" in lines[3]) == ("skipped", "no depth", False)
    assert (lines[4]["file"], lines[4]["time"]) == ("000003.png", pytest.approx(4 / 30, abs=1e-4))
    source = RecordingSource([tmp_path / "session"])
    assert (source.camera, source.depth_unit) == (CAMERA, 1.0)
    again = LiveEstimator(estimator)
    played = [result for result in again.run(source) if result.hands]
    recorded = [line for line in lines if line["hands"]]
    for result, line in zip(played, recorded, strict=True):  # smoothed with the recorded times
        np.testing.assert_allclose(result.hands[0].pose.uvd, line["hands"][0]["uvd"], atol=0.02)
    with pytest.raises(FileExistsError, match="new folder"):
        Recorder(tmp_path / "session", CAMERA, 1.0)


def test_float_frames_are_recorded_as_they_are(estimator, tmp_path):
    with Recorder(tmp_path, CAMERA, 1.0) as recorder:
        for result in steps(LiveEstimator(estimator), [still().astype(np.float32)]):
            recorder.write(result)
    (frame,) = find_frames([tmp_path])
    assert frame.read().dtype == np.float32
