# SPDX-License-Identifier: MIT
"""Write the benchmark table of the README, between its markers, and the growth plot from results files."""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks import load
from benchmarks.report import growth_curves, markdown

BEGIN, END = "<!-- benchmarks: begin -->", "<!-- benchmarks: end -->"


def main() -> None:
    """Write the table and, with --plot, the plot."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("results", nargs="*", type=Path, help="default: benchmarks/results/*.json")
    parser.add_argument("--into", type=Path, default=Path("README.md"), help="a Markdown file with both markers")
    parser.add_argument("--plot", type=Path, help="file for the growth curves: .svg or .png")
    parser.add_argument("--check", action="store_true", help="write nothing; fail if the table is out of date")
    arguments = parser.parse_args()
    files = arguments.results or sorted(Path("benchmarks/results").glob("*.json"))
    if not files:
        parser.error("no results; run: python -m benchmarks all --json benchmarks/results/NAME.json")
    rows = [row for file in files for row in load(file)]
    before = arguments.into.read_text()
    after = replaced(before, markdown(rows), arguments.into)
    if arguments.check and after != before:
        parser.exit(1, f"{arguments.into}: the table is out of date; run {Path(__file__).name}\n")
    if not arguments.check:
        arguments.into.write_text(after)
    figure = growth_curves(rows) if arguments.plot else None
    if figure is not None:
        figure.savefig(arguments.plot, dpi=160)


def replaced(text: str, table: str, path: Path) -> str:
    """Replace the text between the markers by the table.

    Raises:
        SystemExit: A marker is missing, or they are in the wrong order.
    """
    begin, end = text.find(BEGIN), text.find(END)
    if not 0 <= begin < end:
        raise SystemExit(f"{path}: expected the lines {BEGIN} and {END}, in this order")
    return f"{text[: begin + len(BEGIN)]}\n\n{table.strip()}\n\n{text[end:]}"


if __name__ == "__main__":
    main()
