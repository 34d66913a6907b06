# SPDX-License-Identifier: MIT
"""What an experiment leaves behind: JSON for machines, Markdown and pictures for people, and what it ran on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from poseren_ext._utils.atomic_files import atomic_file
from poseren_ext.plotting import save


@dataclass(frozen=True)
class Table:
    """Rows of text under columns; `title` goes above."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def markdown(self) -> str:
        """The table as Markdown, its title as a line before it."""
        rules = [":--", *["--:"] * (len(self.columns) - 1)]
        lines = [f"| {' | '.join(cells)} |" for cells in (self.columns, rules, *self.rows)]
        return f"{self.title}\n\n" + "\n".join(lines) + "\n"


@dataclass
class Report:
    """One experiment's outcome.

    Attributes:
        name: key of the experiment, e.g. "fig5".
        title: what it shows, and the paper's number for it.
        source: on which data and models it ran, in plain words.
        notes: what a reader must know: what is missing, what came out otherwise than in the paper.
        tables: for the terminal and the Markdown.
        figures: file stem -> picture.
        data: every number, for JSON.
    """

    name: str
    title: str
    source: str
    notes: list[str] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    figures: dict[str, Figure] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)

    def markdown(self) -> str:
        """The page that `write` leaves as README.md."""
        parts = [f"# {self.title}\n", f"Data: {self.source}\n"]
        parts += [table.markdown() for table in self.tables]
        parts += [f"![{stem}]({stem}.png)\n" for stem in self.figures]
        if self.notes:
            parts.append("\n".join(f"- {note}" for note in self.notes) + "\n")
        return "\n".join(parts)

    def write(self, folder: Path) -> Path:
        """Write result.json, README.md and the pictures under folder/NAME; each file appears whole.

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
        for name, text in (("result.json", json.dumps(content, indent=1) + "\n"), ("README.md", self.markdown())):
            with atomic_file(target / name) as file:
                file.write(text.encode())
        return target
