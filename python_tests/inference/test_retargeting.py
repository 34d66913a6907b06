# SPDX-License-Identifier: MIT
"""Our joints drive a robot hand: dex-retargeting's optimiser on a small hand of our own, from the camera's frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from poseren_ext.geometry.skeleton import SKELETONS
from poseren_ext.inference.hand_pose import HandPose
from poseren_ext.io.joint_layout import JointLayout

dex = pytest.importorskip("dex_retargeting", reason="dex-retargeting has no release for this Python")
pytest.importorskip("pinocchio", reason="dex-retargeting needs pinocchio")

FINGERS = ("thumb", "index", "middle", "ring")
TIPS = (4, 8, 12, 16)  # dex-retargeting's own indices: MediaPipe's order
LENGTHS = (40.0, 25.0, 20.0)
# Roots of the fingers in mm in the palm's frame: x to the thumb's side, y along the fingers, z out of the palm.
ROOTS = {"thumb": (30, 30, 0), "index": (25, 90, 0), "middle": (0, 92, 0), "ring": (-20, 88, 0), "pinky": (-38, 80, 0)}
LAYOUT = JointLayout("xyz", "m", "palm")

Array = npt.NDArray[np.float64]


def human_hand(angles: dict[str, float]) -> Array:
    """MSRA's joints [21, 3] in mm in the palm's frame; each finger is straight and bent by an angle at its root."""
    joints = [(0.0, 0.0, 0.0)]
    for finger in ("index", "middle", "ring", "pinky", "thumb"):
        x, y, z = ROOTS[finger]
        along = np.cumsum([0.0, *LENGTHS])
        angle = angles.get(finger, 0.0)
        joints += [(x, y + a * np.cos(angle), z + a * np.sin(angle)) for a in along]
    return np.array(joints)


def robot_hand(path: Path) -> Path:
    """A URDF with one joint per finger, in the frame that dex-retargeting uses: x out of the palm, z along fingers."""
    parts = ['<robot name="hand"><link name="palm"/>']
    for finger in FINGERS:
        x, y, _ = np.array(ROOTS[finger]) / 1000
        parts.append(
            f'<link name="{finger}"/><link name="{finger}_tip"/>'
            f'<joint name="{finger}_bend" type="revolute"><parent link="palm"/><child link="{finger}"/>'
            f'<origin xyz="0 {x} {y}"/><axis xyz="0 1 0"/>'
            '<limit lower="-0.3" upper="1.7" effort="1" velocity="1"/></joint>'
            f'<joint name="{finger}_end" type="fixed"><parent link="{finger}"/><child link="{finger}_tip"/>'
            f'<origin xyz="0 0 {sum(LENGTHS) / 1000}"/></joint>'
        )
    path.write_text("".join([*parts, "</robot>"]))
    return path


def pose_in_camera(palm: Array, seed: int) -> HandPose:
    """The hand somewhere in front of the camera, turned in any direction."""
    generator = np.random.default_rng(seed)
    rotation, _ = np.linalg.qr(generator.normal(size=(3, 3)))
    rotation *= np.sign(np.linalg.det(rotation))
    xyz = (palm @ rotation.T + [50, -30, 600]).astype(np.float32)
    nothing = np.zeros_like(xyz)
    return HandPose(xyz, nothing, nothing[0], None, np.int32(3), ("right",), SKELETONS["msra21"])


def retargeting(urdf: Path) -> object:
    from dex_retargeting.retargeting_config import RetargetingConfig

    config = RetargetingConfig(
        type="vector",
        urdf_path=str(urdf),
        target_joint_names=[f"{finger}_bend" for finger in FINGERS],
        target_origin_link_names=["palm"] * 4,
        target_task_link_names=[f"{finger}_tip" for finger in FINGERS],
        target_link_human_indices=np.array([[0] * 4, TIPS]),
        low_pass_alpha=1.0,
    )
    return config.build()


def keypoints(pose: HandPose) -> Array:
    """What dex-retargeting takes: metres, relative to the wrist, in the operator's frame, then in MANO's."""
    from dex_retargeting.constants import OPERATOR2MANO_RIGHT

    palm = np.asarray(pose.in_order("mediapipe", LAYOUT), np.float64)
    operator = palm[:, [1, 2, 0]] * [-1, -1, 1]  # x to the wrist, y out of the back of the hand, z to the index finger
    return np.asarray(operator @ OPERATOR2MANO_RIGHT)


def bend(robot: object, points: Array) -> dict[str, float]:
    targets = points[list(TIPS)] - points[0]
    for _ in range(3):  # each call starts from the last
        angles = robot.retarget(targets)  # type: ignore[attr-defined]
    names = robot.joint_names  # type: ignore[attr-defined]
    return {name.removesuffix("_bend"): float(angle) for name, angle in zip(names, angles, strict=True)}


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("moving", FINGERS)
def test_the_finger_that_moves_moves_the_robots_finger(tmp_path, moving, seed):
    robot = retargeting(robot_hand(tmp_path / "hand.urdf"))
    for angle in (0.0, 0.6, 1.2):
        bent = bend(robot, keypoints(pose_in_camera(human_hand({moving: angle}), seed)))
        for finger in FINGERS:
            assert bent[finger] == pytest.approx(angle if finger == moving else 0.0, abs=0.05), (angle, bent)


def test_another_order_moves_another_finger(tmp_path):
    """The test can fail: MSRA's own order has other fingers at these indices."""
    robot = retargeting(robot_hand(tmp_path / "hand.urdf"))
    pose = pose_in_camera(human_hand({"index": 1.2}), 0)
    right = keypoints(pose)
    palm = np.asarray(pose.in_order("msra21", LAYOUT), np.float64)
    wrong = np.stack([palm[:, 2], palm[:, 0], palm[:, 1]], 1)
    assert bend(robot, right)["index"] > 1
    assert bend(robot, wrong)["index"] < 0.5


def test_its_configurations_use_these_indices():
    """Allegro's thumb to ring tips, as dex-retargeting configures them."""
    import yaml

    folder = Path(dex.__file__).parent / "configs" / "teleop"
    config = yaml.safe_load((folder / "allegro_hand_right.yml").read_text())["retargeting"]
    assert set(TIPS) <= {index for row in config["target_link_human_indices"] for index in row}
