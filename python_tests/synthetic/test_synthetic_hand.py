# SPDX-License-Identifier: MIT
"""The synthetic hand itself: random numbers, anatomy, joint limits, gestures, kinematics, conventions."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from poseren_ext._utils.counter_rng import Counter
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.synthetic import SyntheticHands, SyntheticSequence, convert_joints
from poseren_ext.synthetic.anatomy import sample_anatomy
from poseren_ext.synthetic.articulation import ANGLES, LIMITS, clamp_to_limits, sample_angles, sample_gesture
from poseren_ext.synthetic.kinematics import hand_cones, hand_joints
from poseren_ext.synthetic.scene import SUBJECTS

MANY = torch.arange(4000)
WRIST, THUMB = 0, 17
FINGER_BONES = [(base + k, base + k + 1) for base in (1, 5, 9, 13, 17) for k in range(3)]


@settings(deadline=None, max_examples=25)
@given(seed=st.integers(-(2**40), 2**40), first=st.integers(0, 2**60), count=st.integers(1, 9))
def test_random_numbers_depend_on_seed_and_index_alone(seed: int, first: int, count: int) -> None:
    index = first + torch.arange(count)
    together = Counter(seed, index)
    for draw in ("uniform", "normal"):
        whole = getattr(together, draw)("stream", 5)
        alone = torch.cat([getattr(Counter(seed, i[None]), draw)("stream", 5) for i in index])
        assert torch.equal(whole, alone)
    assert not torch.equal(together.uniform("stream", 5), together.uniform("other", 5))
    assert not torch.equal(together.uniform("stream", 5), Counter(seed + 1, index).uniform("stream", 5))


def test_random_numbers_are_uniform_and_normal() -> None:
    rng = Counter(5, MANY)
    uniform = rng.uniform("u", 50, -2.0, 3.0)
    assert uniform.min() >= -2.0
    assert uniform.max() < 3.0
    histogram = torch.histc(uniform, 20) / uniform.numel()
    assert torch.allclose(histogram, torch.full((20,), 0.05), atol=0.002)
    across, down, chance = rng.field("f", 50)
    for normal in (rng.normal("n", 50), across, down):
        assert abs(float(normal.mean())) < 0.01
        assert abs(float(normal.std()) - 1.0) < 0.01
        assert abs(float((normal.abs() < 1.0).float().mean()) - math.erf(2**-0.5)) < 0.005
    assert abs(float((across * down).mean())) < 0.01
    assert abs(float(chance.mean()) - 0.5) < 0.005
    neighbours = rng.uniform("u", 50)
    assert abs(float(torch.corrcoef(neighbours[:, :2].T)[0, 1])) < 0.05
    assert abs(float(torch.corrcoef(torch.stack([neighbours[:-1, 0], neighbours[1:, 0]]))[0, 1])) < 0.05


def test_splits_share_no_subject_and_a_subject_keeps_its_hand() -> None:
    used = {split: set(SyntheticHands(3, split).scenes(MANY).subject.tolist()) for split in SUBJECTS}
    assert all(len(subjects) > 300 for subjects in used.values())
    splits = list(used)
    assert not any(used[a] & used[b] for i, a in enumerate(splits) for b in splits[:i])
    a, b = sample_anatomy(torch.tensor([7, 9])), sample_anatomy(torch.tensor([9]))
    assert torch.equal(a.bones[1], b.bones[0])
    assert not torch.equal(a.bones[0], a.bones[1])


def test_hands_vary_in_size_by_15_percent() -> None:
    hands = sample_anatomy(MANY)
    assert 0.85 <= hands.scale.min() < 0.86
    assert 1.14 < hands.scale.max() <= 1.15
    straight = hand_joints(hands, torch.zeros(len(MANY), len(ANGLES)))
    length = straight[:, 8].norm(dim=-1)  # wrist to the middle finger's tip
    assert 150 < length.min() < 170 < 215 < length.max() < 235


def test_joint_angles_stay_within_limits_and_reach_far() -> None:
    limits = torch.tensor(LIMITS)
    angles = sample_angles(Counter(11, MANY))
    assert angles.shape == (len(MANY), len(ANGLES)) == (4000, len(LIMITS))
    assert bool((angles >= limits[:, 0]).all())
    assert bool((angles <= limits[:, 1]).all())
    reach = (angles.amax(0) - angles.amin(0)) / (limits[:, 1] - limits[:, 0])
    assert float(reach.min()) > 0.5, dict(zip(ANGLES, reach.tolist(), strict=True))
    wild = clamp_to_limits(torch.full((1, len(ANGLES)), 500.0))
    assert torch.equal(wild[0], limits[:, 1])


def test_a_third_of_the_samples_bends_each_finger_on_its_own() -> None:
    rng = Counter(12, MANY)
    own = sample_gesture(rng) == 0
    assert float(own.float().mean()) > 1 / 3
    pip = sample_angles(rng)[own].view(-1, len(ANGLES))[:, [2, 6, 10, 14]]
    assert float((torch.corrcoef(pip.T) - torch.eye(4)).abs().max()) < 0.1
    for finger in pip.T:  # from straight to a fist, and everything between
        assert torch.all(torch.histc(finger, 6, 0.0, 108.0) / len(finger) > 0.08)


def test_a_share_of_the_samples_shows_flat_open_hands() -> None:
    rng = Counter(16, MANY)
    usual, mixed, flat = (sample_angles(rng, share) for share in (0.0, 0.2, 1.0))
    changed = (mixed != usual).any(1)
    assert float(changed.float().mean()) == pytest.approx(0.2, abs=0.02)
    assert torch.equal(mixed[changed], flat[changed])
    limits = torch.tensor(LIMITS)
    limits[1:16:4, 0] = -25.0  # the knuckles bend back further
    assert bool(((flat >= limits[:, 0]) & (flat <= limits[:, 1])).all())
    assert 0.2 < float((flat[:, 1] < -15.0).float().mean()) < 0.4
    joints = hand_joints(sample_anatomy(MANY), flat)
    fingers = joints[:, 1:17].view(-1, 4, 4, 3)
    length = (fingers[:, :, 1:] - fingers[:, :, :-1]).norm(dim=-1).sum(2)
    assert float(((fingers[:, :, 3] - fingers[:, :, 0]).norm(dim=-1) / length).min()) > 0.9
    # In nine recorded flat palms the thumb's tip is 6 to 25 mm before the plane of the bones.
    flat_tip, tip = (hand_joints(sample_anatomy(MANY), angles)[:, 20, 2] for angles in (flat, usual))
    near = [((one > 6.0) & (one < 25.0)).float().mean() for one in (flat_tip, tip)]
    assert float(near[0]) > 0.4 > 0.25 > float(near[1])


def test_the_end_joint_follows_the_middle_one() -> None:
    angles = sample_angles(Counter(13, MANY))
    for finger in range(4):
        pip, dip = angles[:, 4 * finger + 2], angles[:, 4 * finger + 3]
        bent = pip > 20
        assert abs(float((dip[bent] / pip[bent]).mean()) - 2 / 3) < 0.05
        assert float(torch.corrcoef(torch.stack([pip, dip]))[0, 1]) > 0.9


def test_bones_keep_their_length_in_every_pose() -> None:
    subject = torch.full((500,), 42)
    joints = hand_joints(sample_anatomy(subject), sample_angles(Counter(14, torch.arange(500))))
    for a, b in FINGER_BONES:
        length = (joints[:, a] - joints[:, b]).norm(dim=-1)
        assert float(length.max() - length.min()) < 1e-3


def test_fingers_bend_to_the_palm_and_the_thumb_is_a_right_hand_s() -> None:
    hand = sample_anatomy(torch.tensor([1]))
    angles = torch.zeros(1, len(ANGLES))
    angles[:, ANGLES.index("thumb_radial")] = 45.0
    flat = hand_joints(hand, angles)[0]
    fingers, normal = flat[5] - flat[WRIST], torch.tensor([0.0, 0.0, 1.0])
    # Right hand, seen from its palm with the fingers up: the thumb is on the right.
    assert float(torch.linalg.cross(fingers, normal) @ (flat[THUMB + 3] - flat[WRIST])) > 0
    angles[:, ANGLES.index("index_mcp")] = 80.0
    bent = hand_joints(hand, angles)[0]
    assert float(bent[4, 2]) > 50.0
    assert torch.allclose(bent[8], flat[8])


def test_the_skin_covers_every_joint() -> None:
    index = torch.arange(200)
    hand, angles = sample_anatomy(index), sample_angles(Counter(15, index))
    joints = hand_joints(hand, angles)
    cones = hand_cones(hand, joints, angles, torch.full((200,), 60.0))
    axis = cones.b - cones.a  # [B, K, 3]
    s = ((joints[:, :, None] - cones.a[:, None]) * axis[:, None]).sum(-1) / (axis * axis).sum(-1)[:, None]
    s = s.clamp(0.0, 1.0)
    gap = (joints[:, :, None] - cones.a[:, None] - s[..., None] * axis[:, None]).norm(dim=-1)
    depth = (cones.ra[:, None] + s * (cones.rb - cones.ra)[:, None] - gap).amax(2)
    assert float(depth.min()) > 4.0
    assert float(depth.max()) < 30.0


def test_turns_cover_the_circle_and_sixty_degrees_out_of_it() -> None:
    turn = torch.rad2deg(SyntheticHands(4, "test").scenes(MANY).turn)
    assert torch.all(torch.histc(turn[:, 0], 12, -180.0, 180.0) / len(MANY) > 0.06)
    tilt = turn[:, 1:].norm(dim=1)
    assert 58.0 < float(tilt.max()) <= 60.0 + 1e-4
    easy = torch.rad2deg(SyntheticHands(4, "train", 0.25).scenes(MANY).turn)
    assert float(easy[:, 1:].norm(dim=1).max()) <= 15.0 + 1e-4


@pytest.mark.parametrize("difficulty", [0.5, -1.0, 2.0])
def test_the_test_split_is_never_easier(difficulty: float) -> None:
    with pytest.raises(ValueError, match="difficulty"):
        SyntheticHands(1, "test", difficulty)
    with pytest.raises(ValueError, match="split"):
        SyntheticHands(1, "exam")  # type: ignore[arg-type]


@pytest.mark.parametrize("name", sorted(SKELETONS))
def test_conventions_name_the_same_places(name: str) -> None:
    joints = SyntheticHands(6).scenes(torch.arange(50)).posed()[0]
    converted = convert_joints(joints, name)
    skeleton = SKELETONS[name]
    assert converted.shape == (50, skeleton.num_joints, 3)
    assert torch.allclose(convert_joints(joints + 7.0, name), converted + 7.0, atol=1e-3)  # weights sum to 1
    thumb_to_pinky = (20, 4, 8, 12, 16)
    for (_, _, tip), expected in zip(skeleton.fingers, thumb_to_pinky, strict=True):
        assert torch.equal(converted[:, tip], joints[:, expected])
    with pytest.raises(ValueError, match="expected one of"):
        convert_joints(joints, "mano")


def test_sequences_move_smoothly_and_keep_their_hand() -> None:
    sequence = SyntheticSequence(8, "test", number=2)
    index = torch.arange(100)
    scene = sequence.scenes(index)
    joints, _ = scene.posed()
    step = (joints[1:] - joints[:-1]).norm(dim=-1)
    assert 1.0 < float(step.max()) < 40.0  # mm a frame
    jerk = (joints[2:] - 2 * joints[1:-1] + joints[:-2]).norm(dim=-1)
    assert float(jerk.max()) < 10.0
    assert len(set(scene.subject.tolist())) == 1
    limits = torch.tensor(LIMITS)
    assert bool((scene.angles >= limits[:, 0] - 1e-4).all())
    assert bool((scene.angles <= limits[:, 1] + 1e-4).all())
    other = SyntheticSequence(8, "test", number=3).scenes(index)
    assert not torch.equal(other.angles, scene.angles)
    assert torch.equal(sequence.scenes(index[50:]).angles, scene.angles[50:])
