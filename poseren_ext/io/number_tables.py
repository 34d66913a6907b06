# SPDX-License-Identifier: MIT
"""Text files of numbers, one row per line: the form of label, prediction and centre files."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from poseren_ext._utils.text_files import read_text

PathLike = str | os.PathLike[str]

MAX_FILE_BYTES = 2**29
"""Limit for files that are read whole: a million frames of 21 joints take 500 MB."""


@dataclass(frozen=True, eq=False)
class NumberTable:
    """Rows of numbers.

    Attributes:
        values: float64 [N, C], finite.
        names: the first word of each row where rows begin with a name, else empty strings.
        lines: int64 [N], the line of the file that each row is from, counted from 1.
    """

    values: npt.NDArray[np.float64]
    names: list[str]
    lines: npt.NDArray[np.int64]


class ColumnCountError(ValueError):
    """Mixed into the error for a row with another number of values than expected.

    Attributes:
        found: values in the row.
    """

    found: int = 0


def read_lines(path: PathLike, what: str, error: type[ValueError]) -> list[str]:
    """The lines of a text file without empty ones at the end.

    Args:
        path: the file; UTF-8, or UTF-16 or UTF-32 with a byte order mark.
        what: what the file should hold, for messages.
        error: type of the errors raised.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is too large, not text or empty; of the given type.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file; expected {what}")
    if path.stat().st_size > MAX_FILE_BYTES:
        raise error(f"{path}: {path.stat().st_size} bytes; expected at most {MAX_FILE_BYTES}: split it")
    try:
        lines = read_text(path).splitlines()
    except UnicodeDecodeError:
        raise error(f"{path}: not a text file; expected {what}") from None
    while lines and not lines[-1].strip():
        lines.pop()
    if not lines:
        raise error(f"{path}: empty; expected {what}")
    return lines


def read_number_table(
    path: PathLike,
    lines: Sequence[str] | None = None,
    *,
    what: str,
    error: type[ValueError],
    columns: int | None = None,
    named: bool | None = False,
    header: int = 0,
    skip_empty: bool = False,
    chosen: slice | None = None,
    nan: bool = False,
) -> NumberTable:
    """Reads a file of one row per line.

    Args:
        path: the file.
        lines: its lines, if they were read before.
        what: what a line should hold, for messages.
        error: type of the errors raised.
        columns: C; None takes the first row's.
        named: whether each row begins with a name before its numbers; None: where no row begins with a number.
        header: lines before the first row.
        skip_empty: skip empty lines anywhere, not only at the end.
        chosen: columns of the file to read, counted from 0; None reads all.
        nan: accept NaN.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file is not such a table; the message names the line and the value. Of the given type.
    """
    lines = read_lines(path, what, error) if lines is None else lines
    numbered = [(number, line) for number, line in enumerate(lines[header:], start=header + 1)]
    if skip_empty:
        numbered = [(number, line) for number, line in numbered if line.strip()]
    rows = [line.split() for _, line in numbered]
    if chosen is not None:
        rows = [row[chosen] for row in rows]
    if named is None:
        named = bool(rows) and all(len(row) > 1 and not _is_number(row[0]) for row in rows)
    names = [row[0] if named and row else "" for row in rows]
    numbers = [row[1:] for row in rows] if named else rows
    if columns is None and numbers:
        columns = len(numbers[0])
    values = _parsed(numbers)
    if values.shape != (len(numbers), columns) or bool((~np.isfinite(values) & ~(nan & np.isnan(values))).any()):
        for (number, _), row in zip(numbered, numbers, strict=True):
            _check_row(f"{path}, line {number}", row, columns or 0, what, error, nan)
        raise AssertionError("the table as a whole has a fault that none of its rows has")
    return NumberTable(values, names, np.array([number for number, _ in numbered], np.int64))


def _parsed(rows: Sequence[Sequence[str]]) -> npt.NDArray[np.float64]:
    """All rows at once, which is fast; an empty array where that fails."""
    try:
        if any("_" in word for row in rows for word in row):  # Python alone reads 1_0 as a number
            raise ValueError
        return np.array(rows, dtype=np.float64).reshape(len(rows), -1)
    except ValueError:
        return np.empty((0, 0))


def _check_row(where: str, row: Sequence[str], columns: int, what: str, error: type[ValueError], nan: bool) -> None:
    if not row:
        raise error(f"{where}: no values; expected {what}")
    for column, word in enumerate(row, start=1):
        if not _is_number(word):
            hint = " separated by spaces" if "," in word or ";" in word else ""
            raise error(f"{where}, value {column}: {word[:40]!r} is not a number; expected {what}{hint}")
    if len(row) != columns:
        raise _column_error(error, f"{where}: {len(row)} values; expected {what}", len(row))
    for column, word in enumerate(row, start=1):
        value = float(word)
        if not (np.isfinite(value) or (nan and np.isnan(value))):
            hint = " (a frame without a result?)" if np.isnan(value) else ""
            raise error(f"{where}, value {column}: {word}; expected a finite number{hint}")


def _column_error(error: type[ValueError], message: str, found: int) -> ValueError:
    """An error of both types."""
    kind: Any = type(error.__name__, (error, ColumnCountError), {"__module__": error.__module__})
    made: ValueError = kind(message)
    made.found = found  # type: ignore[attr-defined]  # of ColumnCountError
    return made


def _is_number(word: str) -> bool:
    try:
        float(word.replace("_", "?"))
    except ValueError:
        return False
    return True
