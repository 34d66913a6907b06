# SPDX-License-Identifier: MIT
from __future__ import annotations

import pytest

from poseren_ext.geometry.skeleton import FINGERS, PALM_GROUP, SKELETONS, Skeleton

ALL = pytest.mark.parametrize("skeleton", SKELETONS.values(), ids=lambda skeleton: skeleton.name)

# The published tables: guided joints, palm first, then root and tip of thumb, index, middle, ring and pinky.
GUIDED = {
    "nyu14": (13, 10, 8, 7, 6, 5, 4, 3, 2, 1, 0),
    "icvl16": (0, 1, 3, 4, 6, 7, 9, 10, 12, 13, 15),
    "msra21": (0, 18, 20, 2, 4, 6, 8, 10, 12, 14, 16),
    "hands17": (0, 6, 8, 9, 11, 12, 14, 15, 17, 18, 20),
}
JOINTS = {"nyu14": 14, "icvl16": 16, "msra21": 21, "hands17": 21}


@ALL
def test_guided_joints(skeleton: Skeleton) -> None:
    assert skeleton.guided == GUIDED[skeleton.name]
    assert skeleton.num_joints == len(skeleton.joints) == len(set(skeleton.joints)) == JOINTS[skeleton.name]


@ALL
def test_the_tree_shares_the_palm(skeleton: Skeleton) -> None:
    assert skeleton.tree == ((0, 1, 2), (0, 3, 4), (0, 5, 6), (0, 7, 8), (0, 9, 10))
    for finger, regions in zip(skeleton.fingers, skeleton.tree, strict=True):
        assert tuple(skeleton.guided[region] for region in regions) == finger


@ALL
def test_names_and_colours_agree_with_the_fingers(skeleton: Skeleton) -> None:
    assert len(skeleton.finger_of) == skeleton.num_joints
    for joint, group in enumerate(skeleton.finger_of):
        words = skeleton.joints[joint].split()
        assert (words[0] in ("palm", "wrist")) == (group == PALM_GROUP)
        assert group == PALM_GROUP or words[0] == FINGERS[group]
    for number, (palm, root, tip) in enumerate(skeleton.fingers):
        assert skeleton.finger_of[palm] == PALM_GROUP
        assert skeleton.finger_of[root] == skeleton.finger_of[tip] == number
        assert skeleton.joints[tip].endswith("tip")


@ALL
def test_the_bones_join_all_joints_without_a_circle(skeleton: Skeleton) -> None:
    assert len(skeleton.bones) == skeleton.num_joints - 1
    reached = {skeleton.fingers[0][0]}
    for _ in skeleton.bones:
        reached |= {joint for bone in skeleton.bones if reached & set(bone) for joint in bone}
    assert reached == set(range(skeleton.num_joints))


def test_nyu_agrees_with_the_published_network_through_its_own_order() -> None:
    own = [6, 7, 8, 9, 10, 11, 12, 13, 3, 4, 5, 1, 2, 0]  # public[i] = own[...]
    public = {number: joint for joint, number in enumerate(own)}
    nyu = SKELETONS["nyu14"]
    assert {public[number] for number in (0, 3, *range(5, 14))} == set(nyu.guided)
    tree = ([0, 5, 3], [0, 13, 12], [0, 11, 10], [0, 9, 8], [0, 7, 6])
    assert tuple(tuple(public[number] for number in finger) for finger in tree) == nyu.fingers


def test_hands() -> None:
    assert {skeleton.name for skeleton in SKELETONS.values() if skeleton.hand == "left"} == {"icvl16"}
