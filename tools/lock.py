# SPDX-License-Identifier: MIT
"""Writes the locked environment of the tests (`tools/lock.py lock`) and its bill of materials (`... sbom FILE`).

requirements/lock.txt has one version of every package that building, testing and linting need, for every supported
Python on Linux, with the hashes of its files, except torch, torchvision and their own dependencies, because
their build depends on the machine; the Makefile installs torch separately.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LOCK = ROOT / "requirements" / "lock.txt"
SOURCES = ["pyproject.toml", *(f"requirements/{name}.txt" for name in ("build", "test", "lint", "fuzz"))]
TORCH = re.compile(r"(torch|torchvision|triton|nvidia-.*|cuda-.*)==")
HEADER = f"""\
# Every package of the test environment but torch, with the hashes of its files: pip install --require-hashes --no-deps.
# Made of {", ".join(SOURCES)} by tools/lock.py (make lock).
"""


def main() -> None:
    """Run one of the two commands."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("lock", help="rewrite requirements/lock.txt with current versions")
    commands.add_parser("sbom", help="write the lock as CycloneDX JSON").add_argument("file", type=Path)
    arguments = parser.parse_args()
    if arguments.command == "lock":
        lock()
    else:
        sbom(arguments.file)


def lock() -> None:
    """Rewrite the lock file."""
    command = [Path(sys.executable).with_name("uv"), "pip", "compile", "--universal", "--python-version=3.10"]
    command += ["--generate-hashes", "--all-extras", "--no-annotate", "--no-header", *SOURCES, "-"]
    torch = re.search(r"^TORCH \?= (\S+)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert torch
    text = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True, input=torch[1]).stdout
    packages = re.split(r"\n(?=\S)", text.strip())
    kept = [package for package in packages if not TORCH.match(package)]
    LOCK.write_text(HEADER + "\n".join(kept) + "\n")
    print(f"{LOCK.relative_to(ROOT)}: {len(kept)} packages, {len(packages) - len(kept)} of torch omitted")


def sbom(file: Path) -> None:
    """Write the bill of materials; the same lock gives the same bytes."""
    command = [Path(sys.executable).with_name("cyclonedx-py"), "requirements", "--output-reproducible", "--validate"]
    command += ["--pyproject", "pyproject.toml", "--mc-type", "library", "--of", "JSON"]
    subprocess.run([*command, "-o", file.resolve(), LOCK], cwd=ROOT, check=True)


if __name__ == "__main__":
    main()
