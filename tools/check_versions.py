# SPDX-License-Identifier: MIT
"""Checks that all files state the same version of the project, and of torch."""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent

# Each version, and the places that state it: a file and a pattern with the version as its group.
CLAIMS = {
    "version of poseren_ext": [
        ("pyproject.toml", r'^version = "(.+)"$'),
        ("CMakeLists.txt", r"project\(poseren_ext VERSION (\S+)"),
        ("poseren_ext/__init__.py", r'^__version__ = "(.+)"$'),
        ("CHANGELOG.md", r"^## \[(\d\S*)\]"),
        ("CITATION.cff", r"^version: (\S+)$"),
    ],
    "oldest torch": [
        ("pyproject.toml", r'"torch>=([\d.]+)"'),
        ("CMakeLists.txt", r"VERSION_LESS ([\d.]+)\)"),
    ],
}


def main() -> int:
    """Print all disagreements; the exit status is their number."""
    disagreements = 0
    for name, places in CLAIMS.items():
        found = {}
        for path, pattern in places:
            match = re.search(pattern, (ROOT / path).read_text(encoding="utf-8"), re.MULTILINE)
            found[path] = match.group(1) if match else "nothing"
        if len(set(found.values())) > 1:
            disagreements += 1
            print(f"{name}: " + ", ".join(f"{path} says {version}" for path, version in found.items()))
    return disagreements


if __name__ == "__main__":
    sys.exit(main())
