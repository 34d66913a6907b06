# SPDX-License-Identifier: MIT
"""Files that `poseren predict` reads and writes in the tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np


def numbers(path: Path) -> Any:
    """Joints [N, 21, 3] of a text file."""
    return np.array([line.split() for line in path.read_text().splitlines()], float).reshape(-1, 21, 3)


def put(path: Path, content: Any) -> None:
    """Writes bytes, or an image."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        cv2.imwrite(str(path), content)
