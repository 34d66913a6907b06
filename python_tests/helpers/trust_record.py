# SPDX-License-Identifier: MIT
"""What the trust tests did, in numbers: lines of JSON in the file that POSEREN_TRUST_REPORT names, if it names one.

`tools/render_trust.py` makes the tables of docs/trust.md of them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def record(table: str, name: str, **numbers: Any) -> None:
    """Notes a row of a table."""
    report = os.environ.get("POSEREN_TRUST_REPORT")
    if report:
        with Path(report).open("a") as file:
            file.write(json.dumps({"table": table, "name": name, **numbers}) + "\n")


def resident_mib() -> float:
    """Memory that this process has in use now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
