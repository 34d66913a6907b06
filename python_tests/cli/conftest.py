# SPDX-License-Identifier: MIT
"""The command line as a function, and a small recording for it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from helpers.small_models import save_small_model

from poseren_ext.cli import main

DISC_CAMERA = "120,120,80,60"


@dataclass(frozen=True)
class Result:
    """How a command ended."""

    code: int
    out: str
    err: str

    @property
    def error(self) -> str:
        """The one line on stderr of a command that failed."""
        assert self.err.count("\n") == 1, self.err
        assert self.err.startswith("poseren: error: "), self.err
        return self.err.removeprefix("poseren: error: ").rstrip("\n")


def disc_frame(x: float, y: float, mm: int = 500) -> npt.NDArray[np.uint16]:
    """160x120 pixels: a disc of a hand's size (43 mm), mm away, around the pixel x, y."""
    rows, columns = np.mgrid[:120, :160]
    depth = np.zeros((120, 160), np.uint16)
    depth[(rows - y) ** 2 + (columns - x) ** 2 < (43 * 120 / mm) ** 2] = mm
    return depth


@pytest.fixture
def poseren(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command in this process."""

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        with pytest.raises(SystemExit) as caught:
            main([*map(str, arguments)])
        captured = capsys.readouterr()
        assert isinstance(caught.value.code, int)
        return Result(caught.value.code, captured.out, captured.err)

    return call


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
