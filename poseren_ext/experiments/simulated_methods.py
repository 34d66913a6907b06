# SPDX-License-Identifier: MIT
"""Initial poses of methods that are not available, simulated from their published mean error of each joint."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from poseren_ext.datasets.sample import FrameBatch
from poseren_ext.evaluation.methods import JointEstimator
from poseren_ext.geometry.camera import uvd_to_xyz, xyz_to_uvd

NYU_JOINT_ERRORS: dict[str, tuple[float, ...]] = {
    "DeepPrior": (
        *(30.017, 20.174, 26.157, 15.965, 26.129, 16.109, 29.876),
        *(17.981, 27.956, 23.673, 17.924, 13.531, 13.878, 11.129),
    ),
    "Feedback": (
        *(25.284, 13.888, 23.344, 11.579, 23.898, 12.685, 22.650),
        *(13.673, 20.561, 16.147, 13.656, 11.705, 13.303, 1.243),
    ),
    "DeepModel": (
        *(24.293, 14.400, 22.399, 11.830, 23.885, 13.185, 28.641),
        *(15.821, 22.930, 18.617, 15.391, 10.493, 9.832, 6.787),
    ),
}
"""Mean 3D error (mm) of each of NYU's 14 joints, public order, of the published predictions."""

NYU_INIT_ERROR = 14.588
"""Mean 3D error (mm) of the published Init-CNN on NYU."""

COMMON = 0.5
"""Fraction of the noise variance that all joints of a frame share, because errors of real methods are correlated."""

SIMULATED = (
    "DeepPrior, Feedback and DeepModel are simulated: the truth plus Gaussian noise whose mean length at each joint is "
    "the published method's mean error there (NYU); half of its variance is common to a frame's joints. Scaled: the "
    "same noise times the ratio of the Init-CNN's error here to the published one's on NYU (14.59 mm), so that methods "
    "and networks stand to each other as there. Init-CNN is the networks' own."
)


@dataclass(frozen=True)
class NoisyPoses:
    """The truth plus Gaussian noise whose mean length at each joint is given.

    Attributes:
        truth: labels u, v, d [N, J, 3] of the whole dataset.
        camera: intrinsics of each frame [N, 4].
        errors: mean error of each joint, mm.
        seed: random seed of the noise; the noise of a frame does not depend on its batch.
    """

    truth: Tensor
    camera: Tensor
    errors: Sequence[float]
    seed: int = 0

    def estimate(self, frames: FrameBatch) -> Tensor:
        """Noisy joints u, v, d of these frames."""
        index = frames.index.cpu()
        camera = self.camera[index]
        xyz = uvd_to_xyz(self.truth[index], camera)
        # The length of an isotropic Gaussian in space has mean 2 sqrt(2 / pi) sigma.
        sigma = torch.tensor(self.errors, dtype=torch.float32) / (2 * math.sqrt(2 / math.pi))
        noise = torch.stack([self._noise(int(i), len(self.errors)) for i in index])
        return xyz_to_uvd(xyz + sigma[:, None] * noise, camera).to(frames.depth.device)

    def _noise(self, frame: int, joints: int) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + frame)
        own = torch.randn(joints, 3, generator=generator, dtype=torch.float32)
        common = torch.randn(1, 3, generator=generator, dtype=torch.float32)
        return math.sqrt(1 - COMMON) * own + math.sqrt(COMMON) * common


def simulated(truth: Tensor, camera: Tensor, seed: int, init_error: float) -> dict[str, JointEstimator]:
    """The methods of `NYU_JOINT_ERRORS`, with their published errors and with errors relative to that of Init-CNN.

    Args:
        truth: labels [N, J, 3].
        camera: intrinsics of each frame [N, 4].
        seed: random seed of the noise.
        init_error: mean error of the Init-CNN of the networks, mm; scales the noise of the second half of the methods.
    """
    factor = init_error / NYU_INIT_ERROR
    found: dict[str, JointEstimator] = {}
    for name, errors in NYU_JOINT_ERRORS.items():
        found[name] = NoisyPoses(truth, camera, errors, seed)
    for name, errors in NYU_JOINT_ERRORS.items():
        found[f"{name}, scaled"] = NoisyPoses(truth, camera, [factor * error for error in errors], seed)
    return found
