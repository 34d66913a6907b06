# SPDX-License-Identifier: MIT
"""Text files as editors and spreadsheets of any system write them."""

from __future__ import annotations

import codecs
import os
from pathlib import Path

_MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # before UTF-16, whose mark it begins with
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


def read_text(path: str | os.PathLike[str]) -> str:
    """The text of a file in UTF-8, or in the encoding that its byte order mark tells, without the mark.

    Raises:
        UnicodeDecodeError: The bytes are not text in that encoding, or hold a zero character.
        OSError: The file cannot be read.
    """
    content = Path(path).read_bytes()
    mark, encoding = next(((m, e) for m, e in _MARKS if content.startswith(m)), (b"", _unmarked(content)))
    text = content[len(mark) :].decode(encoding)
    if "\0" in text:
        raise UnicodeDecodeError(encoding, content, 0, len(content), "zero characters: not a text file")
    return text


def _unmarked(content: bytes) -> str:
    """UTF-16 without a mark shows as every other byte zero in text that is mostly ASCII."""
    head = content[:64]
    if len(head) >= 4 and len(head) % 2 == 0:
        if not any(head[1::2]) and all(head[::2]):
            return "utf-16-le"
        if not any(head[::2]) and all(head[1::2]):
            return "utf-16-be"
    return "utf-8"
