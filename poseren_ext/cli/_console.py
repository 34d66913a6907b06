# SPDX-License-Identifier: MIT
"""What the commands share: a console and tables."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table
from rich.text import Text

from poseren_ext.cli._errors import one_line

if TYPE_CHECKING:
    from rich.progress import Progress

_WIDE = 200  # columns where the output is not a terminal: a redirected table is not cut


def console(*, stderr: bool = False) -> Console:
    """Where tables and progress go; colours only on a terminal."""
    stream = sys.stderr if stderr else sys.stdout
    return Console(stderr=stderr, width=None if stream.isatty() else _WIDE, highlight=False, soft_wrap=False)


def say(text: str, *, stderr: bool = False, label: str = "", style: str = "") -> None:
    """Print one line as it is: markup in names of files and systems is text, and nothing is wrapped.

    After a label, a terminal shows a line that is too long in several, all of which begin below the text.

    Args:
        text: the line.
        stderr: for messages; results go to stdout.
        label: printed before the text, in `style`.
        style: of the label.
    """
    where = console(stderr=stderr)
    if not label:
        where.print(Text(one_line(text)), soft_wrap=True)
    elif where.is_terminal:
        columns = Table.grid(padding=(0, 2))
        columns.add_column(no_wrap=True)
        columns.add_column(overflow="fold")
        columns.add_row(Text(label, style=style), Text(one_line(text)))
        where.print(columns)
    else:
        where.print(Text(f"{label}  {one_line(text)}"), soft_wrap=True)


def progress() -> Progress:
    """A progress line on a terminal's stderr, gone at the end; nothing where stderr is no terminal."""
    from rich.progress import Progress

    shown = console(stderr=True)
    return Progress(console=shown, transient=True, disable=not shown.is_terminal)


def table(
    title: str | None, columns: Sequence[str], rows: Sequence[Sequence[str]], *, best: int | None = None
) -> Table:
    """A table whose first column is text and the others numbers; the row `best` is bold. Markup in cells is text."""
    result = Table(title=None if title is None else Text(title), title_justify="left", header_style="bold")
    for index, column in enumerate(columns):
        result.add_column(Text(column), justify="left" if index == 0 else "right", no_wrap=True)
    for index, row in enumerate(rows):
        result.add_row(*map(Text, row), style="bold" if index == best else None)
    return result
