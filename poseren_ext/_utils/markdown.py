# SPDX-License-Identifier: MIT
"""Tables in Markdown."""

from __future__ import annotations

from collections.abc import Sequence


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, left: int = 1) -> str:
    """A table whose first `left` columns are text and the others numbers."""
    rules = [":--"] * left + ["--:"] * (len(columns) - left)
    return "".join(f"| {' | '.join(cells)} |\n" for cells in (columns, rules, *rows))
