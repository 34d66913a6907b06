# SPDX-License-Identifier: MIT
"""A hook of MkDocs: pages that mkdocs.yml does not name join the section of their folder, or the guides.

So a page of results, written by a program, needs no second file changed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any


def on_config(config: Any) -> Any:
    """Adds them, by name, before the navigation is made."""
    docs = Path(config["docs_dir"])
    nav: list[Any] = config["nav"]
    named = {page for entry in nav for page in _pages(entry)}
    sections = {title.lower(): pages for entry in nav if isinstance(entry, dict) for title, pages in entry.items()}
    for path in sorted(docs.rglob("*.md")):
        page = path.relative_to(docs).as_posix()
        if page not in named:
            sections.get(path.relative_to(docs).parts[0], sections["guides"]).append(page)
    return config


def _pages(entry: Any) -> list[str]:
    """The pages under an entry of the navigation."""
    if isinstance(entry, str):
        return [entry]
    inner = entry.values() if isinstance(entry, dict) else entry
    return [page for part in inner for page in _pages(part)]
