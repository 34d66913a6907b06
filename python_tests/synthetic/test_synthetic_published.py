# SPDX-License-Identifier: MIT
"""Synthetic frames beside recorded ones: the surface before the joints, the noise."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt
import torch
from helpers.published_data import PUBLISHED, needs_published_data

from poseren_ext.io.depth_files import read_depth
from poseren_ext.io.pose_files import read_poses
from poseren_ext.synthetic import Sensor, SyntheticHands

Image = npt.NDArray[np.floating]


def _roughness(depth: Image, near: float, far: float) -> float:
    """Noise of a surface's pixels against the mean of their neighbours: standard deviation, mm."""
    left, middle, right = depth[:, :-2], depth[:, 1:-1], depth[:, 2:]
    surface = np.abs(left - right) < 6.0
    for part in (left, middle, right):
        surface &= (part > near) & (part < far)
    second = np.abs(middle - (left + right) / 2)[surface]
    assert second.size > 1000
    return float(np.median(second)) / 0.6745 / 1.5**0.5


@needs_published_data
def test_recorded_noise_is_within_the_sensor_model_s() -> None:
    ranges = Sensor()
    quiet, loud = (
        Sensor((ranges.noise[end],) * 2, (ranges.step[end],) * 2, (0.0, 0.0), (0.0, 0.0), 0.0) for end in (0, 1)
    )
    least, most = (_typical_roughness(sensor) for sensor in (quiet, loud))
    recorded = []
    for path in sorted(PUBLISHED.glob("sr305/*/*.png")):
        depth = cv2.imread(str(path), cv2.IMREAD_UNCHANGED) * 0.125
        near = float(np.percentile(depth[depth > 0], 0.5))
        recorded.append(_roughness(depth, near, near + 120))
    assert len(recorded) == 19
    # The recorder's own filter leaves hardly any noise: a sixteenth of a millimetre. The quietest frames come near it.
    assert least < 1.5 * np.median(recorded)
    assert max(recorded) < most


def _typical_roughness(sensor: Sensor) -> float:
    """Of synthetic frames, brought to 600 mm, where the recorded hands are."""
    hands, index = SyntheticHands(5, "test", sensor=sensor), torch.arange(8)
    frames, fars = hands.frames(index), hands.farthest(index).tolist()
    rough = []
    for depth, z, far in zip(frames.depth.numpy(), frames.center[:, 2].tolist(), fars, strict=True):
        rough.append(_roughness(depth, z - 100, min(far, z + 100)) * (600 / z) ** 2)
    return float(np.median(rough))


@needs_published_data
def test_the_surface_lies_as_far_before_the_joints_as_on_the_golden_frame() -> None:
    depth = read_depth(PUBLISHED / "nyu" / "depth_1_0000001.png")
    labels = read_poses(PUBLISHED / "nyu" / "test_groundtruth_uvd.txt", joints=14)[0]
    golden = [d - float(depth[round(v), round(u)]) for u, v, d in labels]
    tiles = SyntheticHands(10, "test", skeleton="nyu14").tiles(torch.arange(200))
    at = tiles.uvd[..., :2].round().long()
    inside = ((at >= 0) & (at < 96)).all(-1)
    at = at.clamp(0, 95)
    surface = tiles.depth[torch.arange(200)[:, None], at[..., 1], at[..., 0]]
    # Of each joint's depths the smaller half: the larger ones are hidden behind other fingers.
    front = torch.where(inside & (surface > 0), tiles.uvd[..., 2] - surface, torch.nan)
    typical = front.nanquantile(0.4, dim=0)
    assert float((typical - torch.tensor(golden)).abs().mean()) < 6.0
    assert float(typical.min()) > 3.0
    assert float(typical.max()) < 41.0
