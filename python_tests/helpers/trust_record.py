# SPDX-License-Identifier: MIT
"""Records the numbers of the trust tests as lines of JSON in the file named by POSEREN_TRUST_REPORT, if it is set.

`tools/render_trust.py` writes the tables of docs/trust.md from them.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any


def record(table: str, name: str, **numbers: Any) -> None:
    """Record a row of a table."""
    report = os.environ.get("POSEREN_TRUST_REPORT")
    if report:
        with Path(report).open("a") as file:
            file.write(json.dumps({"table": table, "name": name, **numbers}) + "\n")


def resident_mib() -> float:
    """Resident memory of this process, MiB."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20
