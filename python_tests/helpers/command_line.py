# SPDX-License-Identifier: MIT
"""Results of commands, and depth frames for them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pytest

from poseren_ext.cli import main

DISC_CAMERA = "120,120,80,60"


class Result(NamedTuple):
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


def exit_status(*arguments: object) -> int:
    """The exit status of a command run in this process."""
    with pytest.raises(SystemExit) as caught:
        main([*map(str, arguments)])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def disc_frame(x: float, y: float, mm: int = 500) -> npt.NDArray[np.uint16]:
    """160x120 pixels: a disc of a hand's size (43 mm), mm away, around the pixel x, y."""
    rows, columns = np.mgrid[:120, :160]
    depth = np.zeros((120, 160), np.uint16)
    depth[(rows - y) ** 2 + (columns - x) ** 2 < (43 * 120 / mm) ** 2] = mm
    return depth
