# SPDX-License-Identifier: MIT
"""Drives a robot hand: JSON lines of `poseren live` in, joint angles of the robot out, through dex-retargeting.

    poseren live --source realsense --order mediapipe --output-unit m --frame palm --out - --headless |
        python examples/teleoperate.py examples/teleoperation/hand.yml

The configuration is one of dex-retargeting's; hand.yml and hand.urdf beside it are a hand with one joint per finger.
Needs `pip install dex-retargeting`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

MAX_ERROR_MM = 30.0
"""The robot does not follow a hand whose predicted error is larger."""


def retargeting(config: Path) -> Any:
    """The optimiser of a configuration whose urdf_path is relative to it."""
    from dex_retargeting.retargeting_config import RetargetingConfig

    RetargetingConfig.set_default_urdf_dir(config.parent)
    return RetargetingConfig.load_from_file(config).build()


def keypoints(joints: Any) -> np.ndarray:
    """Joints [21, 3] in the palm frame, MediaPipe's order and metres, in the axes of dex-retargeting (MANO's)."""
    from dex_retargeting.constants import OPERATOR2MANO_RIGHT

    palm = np.asarray(joints, np.float64)
    operator = palm[:, [1, 2, 0]] * [-1, -1, 1]  # x to the wrist, y out of the back of the hand, z to the index finger
    return np.asarray(operator @ OPERATOR2MANO_RIGHT)


def usable(line: dict[str, Any]) -> list[Any] | None:
    """The joints of the right hand of a line; None where the robot must keep its pose."""
    for hand in line["hands"]:
        error = hand.get("error_mm")
        if hand["hand"] == "right" and (error is None or error <= MAX_ERROR_MM):
            return list(hand["joints"])
    return None


def angles(robot: Any, lines: Iterable[str]) -> Iterator[dict[str, Any]]:
    """For each line the time and the angle in radians of every joint of the robot; none without a usable hand."""
    origins, tips = robot.optimizer.target_link_human_indices
    for line in map(json.loads, lines):
        joints = usable(line)
        if joints is None:
            yield {"time": line["time"], "angles": None}
            continue
        points = keypoints(joints)
        values = robot.retarget(points[tips] - points[origins])
        named = zip(robot.joint_names, map(float, values), strict=True)
        yield {"time": line["time"], "angles": {name: round(value, 4) for name, value in named}}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("config", type=Path, help="a configuration of dex-retargeting, *.yml")
    parser.add_argument("lines", nargs="?", type=argparse.FileType("r"), default=sys.stdin, help="default: stdin")
    given = parser.parse_args()
    for result in angles(retargeting(given.config), given.lines):
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
