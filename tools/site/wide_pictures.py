# SPDX-License-Identifier: MIT
"""Marks wide pictures on the pages of the site, which docs/assets/site.css keeps readable on a phone."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

_IMAGE = re.compile(r'<img alt="([^"]*)" src="([^"]+\.png)"')
_WIDE = 1400  # pixels: several panels beside each other, or plots with small text
_WITHOUT_TEXT = ("hands.png",)


def on_page_content(html: str, page: Any, config: Any, **_: Any) -> str:
    """Add a class to every wide picture (a hook of MkDocs)."""
    return mark_wide(html, Path(config["docs_dir"]), page.url)


def mark_wide(html: str, docs: Path, url: str) -> str:
    """The HTML of the page at this address, with the class "wide" on pictures of 1400 pixels and more with text."""

    def marked(match: re.Match[str]) -> str:
        file = docs / posixpath.normpath(posixpath.join(url, match[2]))
        wide = png_width(file) >= _WIDE and file.name not in _WITHOUT_TEXT
        return f'{match[0]} class="wide"' if wide else match[0]

    return _IMAGE.sub(marked, html)


def png_width(file: Path) -> int:
    """The width of a PNG file in pixels."""
    with file.open("rb") as stream:
        return int.from_bytes(stream.read(20)[16:], "big")
