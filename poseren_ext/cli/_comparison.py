# SPDX-License-Identifier: MIT
"""Tables that compare methods, and their forms: Markdown, HTML and LaTeX."""

from __future__ import annotations

import html
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from poseren_ext.evaluation.metrics import Evaluation
    from poseren_ext.geometry.skeleton import Skeleton

_SHOWN_THRESHOLDS = (10.0, 20.0, 30.0, 40.0, 50.0)
_ERRORS = 2  # columns of errors in the summary; in the others larger is better


@dataclass(frozen=True)
class Comparison:
    """A table: its first column is text, the others numbers.

    Attributes:
        title: one line.
        columns: headings.
        rows: cells, as text.
        best: row and column of the best numbers among the methods, ties included; none if there is one method.
    """

    title: str
    columns: list[str]
    rows: list[list[str]]
    best: frozenset[tuple[int, int]]


def compare(dataset: str, results: Sequence[Evaluation], skeleton: Skeleton) -> list[Comparison]:
    """The summary, one row per method, and the mean error of each joint, one column per method."""
    from poseren_ext.plotting.curves import joint_order

    title = f"{dataset.upper()}, {results[0].frames} frames; <= t: frames whose largest joint error is within t"
    columns = ["system", "3D (mm)", "2D (px)", *(f"<= {t:.0f} mm (%)" for t in _SHOWN_THRESHOLDS), "AUC 0..80 (%)"]
    rows = [
        [
            *(one.name, f"{one.mean_3d:.3f}", f"{one.mean_2d:.3f}"),
            *(f"{one.success(t):.3f}" for t in _SHOWN_THRESHOLDS),
            f"{one.auc:.2f}",
        ]
        for one in results
    ]
    best = {
        (row, column)
        for column in range(1, len(columns))
        for row in _best([cells[column] for cells in rows], min if column <= _ERRORS else max)
    }
    joints = [[skeleton.joints[j], *(f"{one.per_joint[j]:.3f}" for one in results)] for j in joint_order(skeleton)]
    joints.append(["mean", *(f"{one.mean_3d:.3f}" for one in results)])
    lowest = {(row, column + 1) for row, cells in enumerate(joints) for column in _best(cells[1:], min)}
    return [
        Comparison(title, columns, rows, frozenset(best)),
        Comparison(
            "Mean error of each joint", ["joint (mm)", *(one.name for one in results)], joints, frozenset(lowest)
        ),
    ]


def _best(cells: Sequence[str], better: Callable[[list[float]], float]) -> Iterator[int]:
    """Indices of the best of several numbers."""
    numbers = [float(cell) for cell in cells]
    return (index for index, number in enumerate(numbers) if len(numbers) > 1 and number == better(numbers))


def to_markdown(tables: Sequence[Comparison]) -> str:
    """Markdown tables after the title of the first one."""
    from poseren_ext._utils.markdown import markdown_table

    return f"{tables[0].title}.\n\n" + "\n".join(markdown_table(table.columns, table.rows) for table in tables)


_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8"/>
<meta name="viewport" content="width=device-width, initial-scale=1"/>
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 72rem; padding: 0 1rem; }}
div {{ overflow-x: auto; }}
table {{ border-collapse: collapse; margin-bottom: 2rem; }}
th, td {{ padding: .25rem .75rem; text-align: right; white-space: nowrap; border-bottom: 1px solid #8884; }}
th:first-child, td:first-child {{ text-align: left; }}
thead th {{ border-bottom: 2px solid #888; }}
@media (prefers-color-scheme: dark) {{ body {{ background: #111; color: #eee; }} }}
</style>
</head>
<body>
{tables}</body>
</html>
"""


def to_html(tables: Sequence[Comparison]) -> str:
    """One page without scripts or other files; the best numbers are bold."""
    return _PAGE.format(title=html.escape(tables[0].title), tables="".join(map(_html_table, tables)))


def _html_table(table: Comparison) -> str:
    heads = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in table.columns)
    lines = [f"<h2>{html.escape(table.title)}</h2>", "<div><table>", f"<thead><tr>{heads}</tr></thead>", "<tbody>"]
    for row, cells in enumerate(table.rows):
        shown = [html.escape(cell) for cell in cells]
        shown = [f"<b>{cell}</b>" if (row, column) in table.best else cell for column, cell in enumerate(shown)]
        lines.append(f"<tr>{''.join(f'<td>{cell}</td>' for cell in shown)}</tr>")
    return "\n".join([*lines, "</tbody>", "</table></div>", ""])


_LATEX = {char: f"\\{char}" for char in "&%$#_{}"} | {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
}


def to_latex(tables: Sequence[Comparison]) -> str:
    r"""Tables for \\usepackage{booktabs}; the best numbers are bold."""
    return "% \\usepackage{booktabs}\n" + "\n".join(map(_latex_table, tables))


def _latex(text: str) -> str:
    parts = ["".join(_LATEX.get(char, char) for char in part) for part in text.split("<=")]
    return r"$\leq$".join(parts)


def _latex_table(table: Comparison) -> str:
    def line(cells: Sequence[str], row: int | None = None) -> str:
        shown = [_latex(cell) for cell in cells]
        shown = [rf"\textbf{{{cell}}}" if (row, column) in table.best else cell for column, cell in enumerate(shown)]
        return f"{' & '.join(shown)} \\\\"

    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_latex(table.title)}.}}",
            rf"\begin{{tabular}}{{l{'r' * (len(table.columns) - 1)}}}",
            r"\toprule",
            line(table.columns),
            r"\midrule",
            *(line(cells, row) for row, cells in enumerate(table.rows)),
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
            "",
        ]
    )
