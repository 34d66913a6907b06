# SPDX-License-Identifier: MIT
"""A LeRobot teleoperator: the bend of each finger of a hand in front of a depth camera, as the action of a robot hand.

    from lerobot_teleoperator import PoserenHand, PoserenHandConfig
    hand = PoserenHand(PoserenHandConfig(source="realsense"))
    hand.connect()
    hand.get_action()  # {"thumb.pos": 12.0, "index.pos": 3.0, ...}: 0 straight to 100 bent

Needs `pip install lerobot` and the camera's extra, such as `poseren_ext[realsense]`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from lerobot.teleoperators import Teleoperator, TeleoperatorConfig

from poseren_ext import Estimator
from poseren_ext.io.joint_layout import JointLayout
from poseren_ext.live import LiveEstimator, open_source

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
BENT = 150.0  # degrees between the first and the last bone of a bent finger


@TeleoperatorConfig.register_subclass("poseren_hand")
@dataclass
class PoserenHandConfig(TeleoperatorConfig):
    source: str = "realsense"
    hand: str = "right"
    model: str = "demo"


class PoserenHand(Teleoperator):
    config_class = PoserenHandConfig
    name = "poseren_hand"

    def __init__(self, config: PoserenHandConfig) -> None:
        super().__init__(config)
        self.config = config
        self._source: Any = None
        self._last = dict.fromkeys(self.action_features, 0.0)

    @property
    def action_features(self) -> dict[str, type]:
        return {f"{finger}.pos": float for finger in FINGERS}

    @property
    def feedback_features(self) -> dict[str, type]:
        return {}

    @property
    def is_connected(self) -> bool:
        return self._source is not None

    @property
    def is_calibrated(self) -> bool:
        return True  # angles do not depend on the size of the hand

    def calibrate(self) -> None: ...

    def configure(self) -> None: ...

    def send_feedback(self, feedback: dict[str, Any]) -> None: ...

    def connect(self, calibrate: bool = True) -> None:
        self._source = open_source(self.config.source)
        settings = {"camera": self._source.camera, "depth_unit": self._source.depth_unit}
        self._live = LiveEstimator(Estimator(self.config.model, hand=self.config.hand, **settings))
        self._results = self._live.run(self._source)

    def get_action(self) -> dict[str, float]:
        """The bend of each finger in the next frame, 0 to 100; the last one where no hand was found."""
        result = next(self._results)
        if result.hands:
            self._last = bends(result.hands[0].pose.in_order("mediapipe", JointLayout("xyz")))
        return self._last

    def disconnect(self) -> None:
        self._source.close()
        self._source = None


def bends(joints: Any) -> dict[str, float]:
    """The angle between the first and the last bone of each finger, from 0 (straight) to 100 (150 degrees).

    Args:
        joints: [21, 3] in MediaPipe's order.
    """
    points = np.asarray(joints, np.float64)
    action = {}
    for i, finger in enumerate(FINGERS):
        bones = np.diff(points[1 + 4 * i : 5 + 4 * i], axis=0)
        first, last = bones[0] / np.linalg.norm(bones[0]), bones[-1] / np.linalg.norm(bones[-1])
        angle = np.degrees(np.arccos(np.clip(first @ last, -1, 1)))
        action[f"{finger}.pos"] = float(np.clip(100 * angle / BENT, 0, 100))
    return action
