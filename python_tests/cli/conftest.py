# SPDX-License-Identifier: MIT
"""A small model and a small recording for commands."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import pytest
from helpers.command_line import DISC_CAMERA, Result, disc_frame
from helpers.small_models import save_small_model


@pytest.fixture(scope="session")
def small_model_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of MSRA's 21 joints that has learned nothing."""
    return save_small_model(tmp_path_factory.mktemp("tiny") / "tiny.safetensors")


@pytest.fixture
def disc_recording(tmp_path: Path) -> Path:
    """Seven frames of a disc that moves to the right."""
    folder = tmp_path / "recording"
    folder.mkdir()
    for i in range(7):
        cv2.imwrite(str(folder / f"{i}.png"), disc_frame(60 + 5 * i, 60))
    return folder


@pytest.fixture
def predict(poseren: Callable[..., Result], small_model_file: Path, tmp_path: Path) -> Callable[..., Result]:
    """Runs `poseren predict` with the small model."""

    def call(*arguments: object, out: object = tmp_path / "out.txt", camera: str = DISC_CAMERA) -> Result:
        return poseren("predict", *arguments, "--camera", camera, "--model", small_model_file, "--out", out)

    return call
