# SPDX-License-Identifier: MIT
"""The code blocks of the documentation that do not run as they are, for the tests that stand in for them."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
NOT_RUN = re.compile(r"<!-- not run: .+; stand-in: (.+) -->\n\n```(?:sh|py)\n((?:.*\n)*?)```$", re.MULTILINE)


def blocks_not_run(page: Path) -> list[str]:
    """The blocks of a page that do not run."""
    return [block[2] for block in NOT_RUN.finditer(page.read_text())]


def block_not_run(page: str, text: str) -> str:
    """The one block of docs/PAGE with this text."""
    (block,) = [block for block in blocks_not_run(ROOT / "docs" / page) if text in block]
    return block


def commands(block: str) -> list[str]:
    """The commands of a shell block, without comments; lines that are continued are joined."""
    joined = re.sub(r"\|\n\s*", "| ", block.replace("\\\n", ""))
    return [line.partition("  #")[0].rstrip() for line in joined.splitlines() if line.strip()]


def changed(command: str, *more: str, **replaced: str) -> list[str]:
    """The arguments of a command; those named here (`device="cpu"`, `seed="3"`) get this value, and more follow.

    Raises:
        AssertionError: the command has no such option or field.
    """
    arguments = shlex.split(command)
    for name, value in replaced.items():
        option = f"--{name.replace('_', '-')}"
        fields = [i for i, argument in enumerate(arguments) if argument.startswith(f"{name}=")]
        if fields:
            arguments[fields[0]] = f"{name}={value}"
        else:
            assert option in arguments, f"{command} has neither {option} nor {name}="
            arguments[arguments.index(option) + 1] = value
    return [*arguments, *more]
