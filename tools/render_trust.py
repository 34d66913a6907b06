# SPDX-License-Identifier: MIT
"""Writes the tables of docs/trust.md from numbers recorded by the tests: `tools/render_trust.py REPORT [REPORT ...]`.

A report is made by POSEREN_TRUST_REPORT=FILE make test (or fuzz, or soak); see python_tests/helpers/trust_record.py.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from poseren_ext._utils.markdown import markdown_table

PAGE = Path(__file__).resolve().parent.parent / "docs" / "trust.md"
Row = dict[str, Any]


def main() -> None:
    """Replace the contents between the markers of each table that has rows in the reports."""
    lines = [json.loads(line) for file in sys.argv[1:] for line in Path(file).read_text().splitlines()]
    text = PAGE.read_text()
    for table in sorted({line["table"] for line in lines}):
        rows = _joined(line for line in lines if line["table"] == table)
        begin, end = f"<!-- {table}: made by tools/render_trust.py -->\n", f"<!-- end of {table} -->"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        if not re.search(pattern, text, re.DOTALL):
            sys.exit(f"{PAGE} has no table {table}")
        made = begin + "\n" + _table(rows) + "\n" + end
        text = re.sub(pattern, made.replace("\\", r"\\"), text, flags=re.DOTALL)
    PAGE.write_text(text)


def _joined(lines: Iterable[Row]) -> list[Row]:
    """One row per name; later numbers replace earlier ones."""
    rows: dict[str, Row] = {}
    for line in lines:
        key = f"{line['name']} {line.get('device', '')}"
        rows.setdefault(key, {}).update({name: value for name, value in line.items() if name != "table"})
    return list(rows.values())


def _table(rows: list[Row]) -> str:
    columns = list(dict.fromkeys(name for row in rows for name in row))
    head = [column.replace("_mib", " (MiB)").replace("_", " ") for column in columns]
    return markdown_table(head, [[_cell(row.get(name)) for name in columns] for row in rows])


def _cell(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return ", ".join(map(_cell, value))
    if isinstance(value, float):
        return "identical" if value == 0 else f"{value:.3g}" if value < 1 else f"{value:.1f}"
    return f"{value:,}" if isinstance(value, int) else str(value)


if __name__ == "__main__":
    main()
