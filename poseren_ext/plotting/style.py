# SPDX-License-Identifier: MIT
"""Colours, fonts and figures, shared by all pictures of the package.

Figures are made without pyplot, so nothing here depends on or changes global state, and no display is needed.
"""

from __future__ import annotations

import os
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from poseren_ext._utils.atomic_files import atomic_file

Axes: TypeAlias = Any
Array: TypeAlias = npt.NDArray[Any]

DPI = 130
INK = "#222222"
GRID = "#DDDDDD"

# Okabe and Ito's palette: distinguishable with any common colour vision, and on grey.
FINGER_COLORS = ("#D55E00", "#E69F00", "#009E73", "#56B4E9", "#CC79A7", "#3C3C3C")
"""Thumb, index, middle, ring, pinky, and palm or wrist."""

TRUTH_COLOR = "#000000"


@dataclass(frozen=True)
class Line:
    """How a system's curve is drawn; dashes distinguish systems where colours cannot."""

    color: str
    dashes: str | tuple[int, tuple[float, ...]] = "-"
    width: float = 1.8

    @property
    def options(self) -> dict[str, Any]:
        """Keyword arguments of matplotlib's ``plot``."""
        return {"color": self.color, "linestyle": self.dashes, "linewidth": self.width}


_PALETTE = (
    Line("#0072B2"),
    Line("#E69F00", (0, (6, 1.5))),
    Line("#009E73", (0, (4, 1, 1, 1))),
    Line("#CC79A7", (0, (2, 1))),
    Line("#56B4E9", (0, (6, 1.5))),
    Line("#332288", (0, (4, 1, 1, 1))),
    Line("#999933", (0, (2, 1))),
    Line("#882255"),
    Line("#666666", (0, (6, 1.5))),
    Line("#AA4499", (0, (4, 1, 1, 1))),
)

_KNOWN = {
    "Pose-REN": Line("#D55E00", "-", 2.8),
    "REN-9x6x6": Line("#0072B2"),
    "REN-4x6x6": Line("#56B4E9", (0, (6, 1.5))),
    "Init-CNN": Line("#009E73", (0, (4, 1, 1, 1))),
    "Lie-X": Line("#CC79A7", (0, (2, 1))),
    "Feedback": Line("#E69F00", (0, (6, 1.5))),
    "DeepModel": Line("#332288", (0, (4, 1, 1, 1))),
    "HandsDeep": Line("#999933", (0, (2, 1))),
    "DeepPrior": Line("#882255"),
    "LRF": Line("#666666", (0, (6, 1.5))),
}


def lines_for(names: Sequence[str]) -> dict[str, Line]:
    """The line of each system: fixed for those of the paper, derived from the name for others.

    Two unknown systems in one picture only share a line when no lines are left.
    """
    chosen = {name: _KNOWN[name] for name in names if name in _KNOWN}
    for name in names:
        if name in chosen:
            continue
        start = zlib.crc32(name.encode()) % len(_PALETTE)
        candidates = [_PALETTE[(start + step) % len(_PALETTE)] for step in range(len(_PALETTE))]
        chosen[name] = next((line for line in candidates if line not in chosen.values()), candidates[0])
    return chosen


def new_figure(width: float, height: float) -> Figure:
    """An empty figure, inches, that draws with Agg."""
    figure = Figure(figsize=(width, height), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes, xlabel: str, ylabel: str) -> None:
    """Labels, a light grid behind the data, and no frame around it."""
    axes.set_xlabel(xlabel, fontsize=12, color=INK)
    axes.set_ylabel(ylabel, fontsize=12, color=INK)
    axes.tick_params(labelsize=10.5, colors=INK)
    axes.grid(color=GRID, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def check_path(path: str | os.PathLike[str]) -> Path:
    """The path, if a picture can be written there; called before the work that the picture shows.

    Raises:
        ValueError: the suffix is not .png, .pdf or .svg.
        FileNotFoundError: the folder does not exist.
    """
    path = Path(path)
    if path.suffix.lower() not in (".png", ".pdf", ".svg"):
        raise ValueError(f"{path}: pictures are written as .png, .pdf or .svg")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder to write {path.name} to")
    return path


def save(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a picture atomically; the suffix selects the format.

    Raises:
        ValueError: as `check_path`.
        FileNotFoundError: as `check_path`.
    """
    path = check_path(path)
    with atomic_file(path) as file:
        figure.savefig(file, format=path.suffix.lower().lstrip("."), dpi=DPI)


def as_array(value: Any) -> Array:
    """A tensor on any device, or anything array-like, as a NumPy array."""
    if hasattr(value, "detach"):
        value = value.detach().cpu().float().numpy()
    return np.asarray(value, dtype=float)
