# SPDX-License-Identifier: MIT
"""Joint orders of other tools: every index written out by hand, and compared with the tools' own constants."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from poseren_ext.geometry.joint_orders import ORDERS, anatomy, in_order, joint_names, missing_joints
from poseren_ext.geometry.palm_frame import palm_frame, to_palm
from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.synthetic.conventions import convert_joints

MSRA = SKELETONS["msra21"]

# For each place of the order the joint of MSRA's 21 (wrist; index, middle, ring, pinky, thumb x 4); -1: missing.
FROM_MSRA = {
    "mediapipe": (0, *(17, 18, 19, 20), *range(1, 17)),
    "mano": (0, *(1, 2, 3), *(5, 6, 7), *(13, 14, 15), *(9, 10, 11), *(17, 18, 19), *(20, 4, 8, 12, 16)),
    "openxr26": (
        *(-1, 0),
        *(17, 18, 19, 20),
        *(-1, 1, 2, 3, 4),
        *(-1, 5, 6, 7, 8),
        *(-1, 9, 10, 11, 12),
        *(-1, 13, 14, 15, 16),
    ),
    "msra21": tuple(range(21)),
    "hands17": (0, 17, 1, 5, 9, 13, *(18, 19, 20), *(2, 3, 4), *(6, 7, 8), *(10, 11, 12), *(14, 15, 16)),
    "icvl16": (-1, *(18, 19, 20), *(1, 2, 4), *(5, 6, 8), *(9, 10, 12), *(13, 14, 16)),
    "nyu14": (*(16, 14), *(12, 10), *(8, 6), *(4, 2), *(20, 19, 18), -1, -1, -1),
}


def numbered(count: int, dtype: type = np.float32) -> np.ndarray:
    """Joints whose coordinates are their number."""
    return np.repeat(np.arange(count, dtype=dtype)[:, None], 3, 1)


def test_every_order_is_tried():
    assert set(FROM_MSRA) == set(ORDERS)


@pytest.mark.parametrize("order", ORDERS)
def test_msra_joints_in_every_order(order):
    moved = in_order(numbered(21), MSRA, order)
    expected = np.array(FROM_MSRA[order], np.float32)
    np.testing.assert_array_equal(moved[:, 0], np.where(expected < 0, np.nan, expected))
    assert moved.dtype == np.float32
    absent = [name for name, index in zip(joint_names(order), FROM_MSRA[order], strict=True) if index < 0]
    assert list(missing_joints(MSRA, order)) == absent


@pytest.mark.parametrize("skeleton", SKELETONS)
def test_joints_agree_with_the_synthetic_hand_in_every_convention(skeleton):
    """The same hand in MSRA's order and in the dataset's: joints of one name are at one place."""
    hand = torch.randn(2, 21, 3, dtype=torch.float64)
    own = convert_joints(hand, skeleton)
    back = in_order(own, SKELETONS[skeleton], "msra21")
    known = ~back.isnan()
    torch.testing.assert_close(back[known], hand[known])
    assert int(known[0, :, 0].sum()) == {"msra21": 21, "hands17": 21, "icvl16": 15, "nyu14": 11}[skeleton]


@pytest.mark.parametrize("skeleton", SKELETONS)
def test_a_skeletons_own_order_changes_nothing(skeleton):
    joints = numbered(SKELETONS[skeleton].num_joints)
    np.testing.assert_array_equal(in_order(joints, SKELETONS[skeleton], skeleton), joints)
    assert len(set(anatomy(SKELETONS[skeleton]))) == len(joints)


@pytest.mark.parametrize("kind", [np.asarray, torch.as_tensor])
@pytest.mark.parametrize("shape", [(21, 3), (2, 21, 3), (4, 2, 21, 3)])
def test_kinds_and_leading_axes_are_kept(kind, shape):
    joints = kind(np.random.default_rng(0).normal(size=shape))
    moved = in_order(joints, MSRA, "openxr26")
    assert type(moved) is type(joints)
    assert (tuple(moved.shape), moved.dtype) == ((*shape[:-2], 26, 3), joints.dtype)
    assert bool((moved[..., 5, :] == joints[..., 20, :]).all())  # the thumb's tip


@pytest.mark.parametrize("name", ["msra", "NYU", "icvl", "MediaPipe", "MANO"])
def test_names_of_datasets_and_any_case(name):
    assert joint_names(name)


def test_refusals():
    with pytest.raises(ValueError, match=r"joint order 'smplx' is unknown; expected one of mediapipe"):
        joint_names("smplx")
    with pytest.raises(ValueError, match=r"joints have shape \[14, 3\]; expected \[..., 21, 3\] for msra21"):
        in_order(numbered(14), MSRA, "mano")


# --- the palm's frame -----------------------------------------------------------------------------------------------


def test_the_palm_frame_of_an_upright_hand():
    """Wrist at (1, 2, 3), fingers up in the image (-y), the little finger to the right (+x)."""
    joints = np.zeros((21, 3))
    joints[:] = (1, 2, 3)
    joints[5] += (0, -90, 0)  # middle MCP
    joints[13] += (30, -80, 0)  # little finger's MCP
    joints[20] += (-40, -50, -7)  # thumb's tip
    wrist, axes = palm_frame(joints, MSRA)
    np.testing.assert_allclose(wrist, (1, 2, 3))
    np.testing.assert_allclose(axes, [[-1, 0, 0], [0, -1, 0], [0, 0, 1]], atol=1e-12)
    np.testing.assert_allclose(to_palm(joints, MSRA)[20], (40, 50, -7), atol=1e-12)


@pytest.mark.parametrize("seed", range(5))
def test_palm_coordinates_do_not_depend_on_where_the_hand_is(seed):
    generator = np.random.default_rng(seed)
    joints = generator.normal(size=(3, 21, 3)) * 50
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    moved = joints @ rotation.T + generator.normal(size=3) * 500
    np.testing.assert_allclose(to_palm(moved, MSRA), to_palm(joints, MSRA), atol=1e-9)
    _, axes = palm_frame(joints, MSRA)
    np.testing.assert_allclose(axes @ axes.swapaxes(1, 2), np.broadcast_to(np.eye(3), (3, 3, 3)), atol=1e-12)
    np.testing.assert_allclose(np.linalg.det(axes), 1)
    up = joints[:, 5] - joints[:, 0]
    np.testing.assert_allclose(axes[:, 1], up / np.linalg.norm(up, axis=1, keepdims=True), atol=1e-12)


@pytest.mark.parametrize("skeleton", ["nyu14", "icvl16"])
def test_skeletons_without_a_wrist_have_no_palm_frame(skeleton):
    with pytest.raises(ValueError, match=f"wrist.* which {skeleton} does not have"):
        palm_frame(numbered(SKELETONS[skeleton].num_joints), SKELETONS[skeleton])


def test_a_palm_without_extent_is_nan():
    assert np.isnan(to_palm(np.zeros((21, 3)), MSRA)).all()
