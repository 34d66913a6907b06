# SPDX-License-Identifier: MIT
"""What the commands share: a console, tables, result files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from rich.progress import Progress

_WIDE = 200  # columns when no terminal says how many there are: a redirected table is not cut


def console(*, stderr: bool = False) -> Console:
    """Where tables and progress go; colours only on a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _WIDE, highlight=False, soft_wrap=False)


def progress() -> Progress:
    """A progress line on a terminal's stderr, gone at the end; nothing where stderr is no terminal."""
    from rich.progress import Progress

    shown = console(stderr=True)
    return Progress(console=shown, transient=True, disable=not shown.is_terminal)


def table(
    title: str | None, columns: Sequence[str], rows: Sequence[Sequence[str]], *, best: int | None = None
) -> Table:
    """A table whose first column is text and the others numbers; the row `best` is bold."""
    result = Table(title=title, title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        result.add_column(column, justify="left" if index == 0 else "right", no_wrap=True)
    for index, row in enumerate(rows):
        result.add_row(*row, style="bold" if index == best else None)
    return result


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """The same as Markdown."""
    rules = [":--", *["--:"] * (len(columns) - 1)]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (columns, rules, *rows))


def write_text(path: Path, text: str) -> None:
    """Write a file whole or not at all.

    Raises:
        FileNotFoundError: the folder does not exist.
    """
    from poseren_ext._utils.atomic_files import write_atomic

    write_atomic(path, text)
