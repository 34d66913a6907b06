# SPDX-License-Identifier: MIT
"""Reports of experiments: JSON, Markdown and pictures, with the environment."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean, stdev
from typing import Any

from matplotlib.figure import Figure

from poseren_ext._utils.atomic_files import atomic_file
from poseren_ext._utils.markdown import markdown_table
from poseren_ext.plotting import save

# Two-sided 95 % quantiles of Student's t for 1 to 15 degrees of freedom.
_STUDENT = (
    *(12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228),
    *(2.201, 2.179, 2.160, 2.145, 2.131),
)


def spread_of(values: Sequence[float]) -> str:
    """Mean, and standard deviation over seeds if there are several."""
    return f"{mean(values):.3f}" + (f" ± {stdev(values):.3f}" if len(values) > 1 else "")


@dataclass(frozen=True)
class Difference:
    """Paired differences between two systems, mm, one per seed; positive if the first is better."""

    values: list[float]

    @property
    def half_width(self) -> float:
        """Half of the 95 % confidence interval of the mean, by Student's t; infinite for one seed."""
        count = len(self.values)
        if count < 2:
            return math.inf
        quantile = _STUDENT[count - 2] if count - 2 < len(_STUDENT) else 1.96 + 2.4 / (count - 1)
        return quantile * stdev(self.values) / math.sqrt(count)

    @property
    def positive(self) -> bool:
        """Whether the mean is above 0 with 95 % confidence; with one seed, whether it is above 0."""
        if len(self.values) == 1:
            return self.values[0] > 0
        return mean(self.values) > self.half_width

    @property
    def verdict(self) -> str:
        """Text that says whether the difference is reproduced."""
        if self.positive:
            return "appears" + (" with every seed" if len(self.values) > 1 and min(self.values) > 0 else "")
        if len(self.values) > 1 and abs(mean(self.values)) <= self.half_width:
            return "is not decided by these seeds"
        return "does NOT appear"

    def __str__(self) -> str:
        each = ", ".join(f"{value:+.3f}" for value in self.values)
        if len(self.values) == 1:
            return f"{each} mm"
        middle, half = mean(self.values), self.half_width
        interval = f"95 % confidence interval {middle - half:+.3f} to {middle + half:+.3f}"
        return f"{middle:+.3f} mm, {interval}; seed by seed: {each}"


@dataclass(frozen=True)
class Table:
    """Rows of text under columns; `title` goes above."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table as Markdown, after a line with its title."""
        return f"{self.title}\n\n{markdown_table(self.columns, self.rows)}"


def report_files(folder: Path, name: str) -> tuple[Path, Path]:
    """The files that a report of this name always has in this folder, beside its pictures."""
    return folder / name / "result.json", folder / name / "README.md"


@dataclass
class Report:
    """The result of one experiment.

    Attributes:
        name: key of the experiment, for example "fig5".
        title: title, with the number of the table or figure in the paper.
        source: description of the data and the models.
        notes: limitations, missing data, and differences from the paper.
        tables: tables for the terminal and the Markdown page.
        figures: file stem -> picture.
        data: all numbers, for JSON.
    """

    name: str
    title: str
    source: str
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """The page that `write` saves as README.md."""
        parts = [f"# {self.title}\n", f"Data: {self.source}\n"]
        parts += [table.markdown() for table in self.tables]
        parts += [f"![{stem}]({stem}.png)\n" for stem in self.figures]
        if self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes) + "\n")
        return "\n".join(parts)

    def write(self, folder: Path) -> Path:
        """Write result.json, README.md and the pictures to folder/NAME; each file is written atomically.

        Returns:
            The folder that was written.
        """
        target = folder / self.name
        target.mkdir(parents=True, exist_ok=True)
        for stem, figure in self.figures.items():
            save(figure, target / f"{stem}.png")
        content = {
            "experiment": self.name,
            "title": self.title,
            "source": self.source,
            "notes": self.notes,
            **self.data,
        }
        texts = (json.dumps(content, indent=1) + "\n", self.markdown())
        for path, text in zip(report_files(folder, self.name), texts, strict=True):
            with atomic_file(path) as file:
                file.write(text.encode())
        return target
