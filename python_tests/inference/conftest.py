# SPDX-License-Identifier: MIT
"""Frames of a drawn hand, and an estimator for tests whose subject is not the model."""

from __future__ import annotations

import numpy as np
import pytest
from helpers.drawn_hand import DRAWN_CAMERA, hand
from helpers.small_models import small_config, small_model

from poseren_ext import Estimator
from poseren_ext.models import ErrorHeadConfig, PoseREN


@pytest.fixture(scope="session")
def model() -> PoseREN:
    """A small model of random weights that has an error head."""
    return small_model(small_config("msra21", error=ErrorHeadConfig(channels=6, width=8)))


@pytest.fixture(scope="session")
def estimator(model: PoseREN) -> Estimator:
    """With the small model."""
    return Estimator(model, camera=DRAWN_CAMERA)


@pytest.fixture(scope="session")
def frames() -> np.ndarray:
    """Four frames, of a hand that moves to the right; every second one has a wall."""
    return np.stack([hand(u=130 + 20 * i, wall=1500 * (i % 2)) for i in range(4)])
