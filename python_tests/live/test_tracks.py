# SPDX-License-Identifier: MIT
"""Tracks from simulated detections: identities across crossings, dropouts, false detections and wrong sides."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from poseren_ext.live.tracks import CONFIRMATIONS, Observation, TrackSet, TrackSettings

RATE = 30.0


def crossing_hands(count: int) -> np.ndarray:
    """Positions [count, 2, 3] of two hands that cross in the image again and again, one 90 mm behind the other."""
    time = np.arange(count) / RATE
    swing = 220 * np.sin(2 * np.pi * time / 3.1)
    lift = 30 * np.sin(2 * np.pi * time / 1.7)
    left = np.stack([-swing, lift, 450 + 0 * time], 1)
    right = np.stack([swing, -lift, 540 + 20 * np.sin(time)], 1)
    return np.stack([left, right], 1)


def simulate(count: int, seed: int, tracks: TrackSet, *, dropout: float = 0.1, false: float = 0.02) -> list[list[int]]:
    """Track ids of both hands, in the order in which they were given to them."""
    random = np.random.default_rng(seed)
    ids: list[list[int]] = [[], []]
    for i, hands in enumerate(crossing_hands(count)):
        seen = []
        hidden = abs(hands[0, 0] - hands[1, 0]) < 60  # the hand behind
        for number, position in enumerate(hands):
            if random.random() < dropout or (hidden and number == 1):
                continue
            evidence = (1.0 if number else -1.0) * (1 if random.random() < 0.9 else -1)
            seen.append((number, Observation(position + random.normal(0, 8, 3), evidence)))
        if random.random() < false:
            seen.append((None, Observation(random.uniform([-300, -200, 300], [300, 200, 800]), 0.0)))
        order = random.permutation(len(seen))
        found = tracks.update([seen[k][1] for k in order], i / RATE)
        for k, track in zip(order, found, strict=True):
            number = seen[k][0]
            if number is not None and track is not None:
                ids[number].append(track.id)
    return ids


@pytest.mark.parametrize("seed", range(3))
def test_two_crossing_hands_keep_their_ids_and_sides_for_2000_frames(seed: int) -> None:
    tracks = TrackSet(2)
    ids = simulate(2000, seed, tracks)
    assert len(set(ids[0])) == len(set(ids[1])) == 1
    assert ids[0][0] != ids[1][0]
    assert len(ids[0]) > 1700
    assert len(ids[1]) > 1300
    assert tracks[ids[0][0]].side == "left"
    assert tracks[ids[1][0]].side == "right"


def test_without_prediction_and_gates_ids_would_switch() -> None:
    # The same simulation with a tracker that takes the nearest last position, as a check of the simulation itself.
    random = np.random.default_rng(0)
    hands = crossing_hands(2000)
    hands[:, 1, 2] = hands[:, 0, 2]  # at one depth
    last = hands[0].copy()
    switches = 0
    for positions in hands[1:]:
        if abs(positions[0, 0] - positions[1, 0]) < 60:
            continue
        noisy = positions + random.normal(0, 8, (2, 3))
        straight = sum(np.linalg.norm(noisy[k] - last[k]) for k in (0, 1))
        crossed = sum(np.linalg.norm(noisy[k] - last[1 - k]) for k in (0, 1))
        switches += crossed < straight
        last = noisy if straight <= crossed else noisy[::-1].copy()
    assert switches > 10


def test_a_hand_is_predicted_with_its_velocity_while_it_is_hidden() -> None:
    tracks = TrackSet(1)
    for i in range(20):
        tracks.update([Observation(np.array([10.0 * i, 0.0, 500.0]))], i / RATE)
    tracks.advance(25 / RATE)
    (track,) = tracks
    assert track.position[0] == pytest.approx(250, abs=15)
    assert track.velocity[0] == pytest.approx(10 * RATE, rel=0.1)
    (again,) = tracks.update([Observation(np.array([260.0, 0.0, 500.0]))], 26 / RATE)
    assert again is not None
    assert again.id == track.id


def test_a_track_is_deleted_after_its_time_and_its_id_is_not_used_again() -> None:
    tracks = TrackSet(2, TrackSettings(keep=0.5))
    here = Observation(np.array([0.0, 0.0, 500.0]))
    (first,) = tracks.update([here], 0.0)
    (second,) = tracks.update([here], 0.4)
    assert first is not None
    assert second is not None
    assert first.id == second.id
    assert tracks.update([], 0.95) == []
    assert len(tracks) == 0
    (third,) = tracks.update([here], 1.0)
    assert third is not None
    assert third.id == first.id + 1
    tracks.clear()
    (fourth,) = tracks.update([here], 1.1)
    assert fourth is not None
    assert fourth.id == third.id + 1


def test_one_false_detection_does_not_replace_a_hidden_hand_but_a_lasting_one_does() -> None:
    tracks = TrackSet(1)
    hand, other = Observation(np.array([0.0, 0.0, 500.0])), Observation(np.array([400.0, 0.0, 500.0]))
    (first,) = tracks.update([hand], 0.0)
    assert first is not None
    assert tracks.update([other], 1 / RATE) == [None]
    assert [track and track.id for track in tracks.update([hand], 2 / RATE)] == [first.id]
    found = [tracks.update([other], (3 + i) / RATE)[0] for i in range(CONFIRMATIONS)]
    assert [track and track.id for track in found] == [None] * (CONFIRMATIONS - 1) + [first.id + 1]
    assert tracks.update([other, hand], 10 / RATE)[1] is None  # no room: the only track was seen in this frame


@pytest.mark.parametrize(
    ("distance", "right", "same"),
    [(190.0, 0.0, True), (210.0, 0.0, False), (290.0, 1.0, True), (310.0, 1.0, False), (190.0, -1.0, False)],
)
def test_a_new_hand_near_a_hidden_one_is_that_one_unless_it_is_of_the_other_side(
    distance: float, right: float, same: bool
) -> None:
    tracks = TrackSet(1)
    hand = Observation(np.array([0.0, 0.0, 500.0]), right=2.0)
    for i in range(9):  # it stands still
        tracks.update([hand], i / RATE)
    other = Observation(np.array([distance, 0.0, 500.0]), right)
    found = [tracks.update([other], (9 + i) / RATE)[0] for i in range(CONFIRMATIONS)]
    assert [track and track.id for track in found] == [None] * (CONFIRMATIONS - 1) + [1 if same else 2]
    (track,) = tracks
    assert np.linalg.norm(track.position - other.position) < 1.0
    assert track.observations == CONFIRMATIONS + (9 if same else 0)
    assert track.right == pytest.approx(12.0 if same else CONFIRMATIONS * right)
    tracks.withdraw(track.id)
    assert [one.position[0] for one in tracks] == pytest.approx([distance], abs=1.0)  # as a new one, it stays


def test_a_hand_that_turned_back_while_it_was_hidden_is_known_by_where_it_was_seen_last() -> None:
    tracks = TrackSet(1)
    for i in range(9):  # it moves to the right
        tracks.update([Observation(np.array([30.0 * i, 0.0, 500.0]))], i / RATE)
    back = Observation(np.array([30.0 * 8 - 150.0, 0.0, 500.0]))  # 240 mm from where it would be in three frames
    found = [tracks.update([back], (9 + i) / RATE)[0] for i in range(CONFIRMATIONS)]
    assert [track and track.id for track in found] == [None] * (CONFIRMATIONS - 1) + [1]


def test_a_track_that_is_seen_does_not_make_room_for_an_observation_before_it_in_the_list() -> None:
    tracks = TrackSet(1)
    hand, other = Observation(np.array([0.0, 0.0, 500.0])), Observation(np.array([400.0, 0.0, 500.0]))
    tracks.update([hand], 0.0)
    for i in range(1, 3 * CONFIRMATIONS):
        first, second = tracks.update([other, hand], i / RATE)
        assert first is None
        assert second is not None
        assert second.id == 1


def test_an_uncertain_observation_continues_a_track_that_no_certain_one_continues_and_starts_none() -> None:
    tracks = TrackSet(3)
    place = np.array([0.0, 0.0, 500.0])
    doubtful, certain = Observation(place, certain=False), Observation(np.array([15.0, 0.0, 500.0]))
    assert tracks.update([doubtful], 0.0) == [None]
    (first,) = tracks.update([certain], 1 / RATE)
    (again,) = tracks.update([doubtful], 2 / RATE)
    assert first is not None
    assert again is not None
    assert again.id == first.id
    found = tracks.update([doubtful, certain], 3 / RATE)
    assert [track and track.id for track in found] == [None, first.id]


def test_an_uncertain_observation_is_near_the_predicted_position() -> None:
    settings = TrackSettings(farthest_uncertain=60.0)
    for away, expected in ((50.0, 1), (70.0, None)):
        tracks = TrackSet(1, settings)
        tracks.update([Observation(np.array([0.0, 0.0, 500.0]))], 0.0)
        (found,) = tracks.update([Observation(np.array([away, 0.0, 500.0]), certain=False)], 0.5)
        assert (found and found.id) == expected


def test_what_is_not_the_hand_is_withdrawn_from_a_hidden_track_but_not_from_one_in_view() -> None:
    def moving(i: int, certain: bool = True) -> Observation:
        return Observation(np.array([10.0 * i, 0.0, 500.0]), certain=certain)

    def beside(i: int, certain: bool = True) -> Observation:
        return Observation(np.array([10.0 * i + 40.0, 0.0, 500.0]), certain=certain)

    for last, certain, withdrawn in ((19, True, False), (19, False, True), (15, True, True)):
        tracks = TrackSet(1)
        for i in range(last + 1):
            tracks.update([moving(i)], i / RATE)
        for i in range(last + 1, 20):
            tracks.update([], i / RATE)
        (track,) = tracks.update([beside(20, certain)], 20 / RATE)
        assert track is not None
        assert track.position[0] > 205
        tracks.withdraw(track.id)
        assert (tracks[track.id].position[0] == pytest.approx(200, abs=2)) == withdrawn
        assert (tracks[track.id].missed == 20 - last) == withdrawn


def test_the_first_observation_of_a_track_is_not_withdrawn() -> None:
    tracks = TrackSet(1)
    (track,) = tracks.update([Observation(np.array([0.0, 0.0, 500.0]))], 0.0)
    assert track is not None
    tracks.withdraw(track.id)
    assert tracks[track.id] == track


def test_the_side_is_that_of_most_evidence_and_can_change() -> None:
    tracks = TrackSet(1)
    place = np.array([0.0, 0.0, 500.0])
    sides = [tracks.update([Observation(place, right)], i / RATE)[0] for i, right in enumerate([1.5, 1.0, -2.0, 0.5])]
    assert [track and track.side for track in sides] == ["right"] * 4
    for i in itertools.count(4):
        (track,) = tracks.update([Observation(place, -2.0)], i / RATE)
        assert track is not None
        if track.side == "left":
            break
        assert i < 10
    assert TrackSet(1).update([Observation(place)], 0.0)[0].side is None  # type: ignore[union-attr]  # it has room


def test_the_side_decides_where_positions_do_not() -> None:
    tracks = TrackSet(2)
    left, right = np.array([-15.0, 0.0, 500.0]), np.array([15.0, 0.0, 500.0])
    first = tracks.update([Observation(left, -4.0), Observation(right, 4.0)], 0.0)
    ids = [track and track.id for track in first]
    middle = np.array([0.0, 0.0, 500.0])
    aside = np.array([1.0, 0.0, 0.0])
    crossed = tracks.update([Observation(middle + aside, -4.0), Observation(middle - aside, 4.0)], 1 / RATE)
    assert [track and track.id for track in crossed] == ids


@pytest.mark.parametrize("settings", [{"noise": 0.0}, {"keep": -1.0}, {"gate": float("nan")}])
def test_invalid_settings_are_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        TrackSettings(**settings)
    with pytest.raises(ValueError, match="most is 0"):
        TrackSet(0)
