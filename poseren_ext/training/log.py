# SPDX-License-Identifier: MIT
"""Log of a training run: a CSV table, and the same numbers for loggers."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from poseren_ext._utils.atomic_files import append_whole, write_atomic
from poseren_ext.training.loggers import Logger

_FIELDS = ("phase", "step", "loss", "learning_rate", "samples_per_second", "validation_mm")


class TrainingLog:
    """log.csv with a row every few steps, and the same numbers for loggers.

    Args:
        folder: folder of the run.
        done: last valid step of each phase. Later rows are dropped, because the resumed run repeats their steps. Empty
            for a new run.
        offsets: number of steps before each phase, added to the steps that loggers get.
        loggers: what else gets the numbers.
    """

    def __init__(
        self, folder: Path, done: Mapping[str, int], offsets: Mapping[str, int], loggers: Sequence[Logger] = ()
    ) -> None:
        self._path = folder / "log.csv"
        self._offsets, self._loggers = offsets, loggers
        _keep_rows(self._path, done)

    def write(self, phase: str, step: int, row: Mapping[str, Any]) -> None:
        """Write a row: "loss", "learning_rate", "samples_per_second", and "validation_mm" if it was measured."""
        errors: Sequence[float] = row.get("validation_mm", ())
        numbers = {key: f"{value:.6g}" for key, value in row.items() if isinstance(value, float)}
        if errors:
            numbers["validation_mm"] = " ".join(f"{error:.3f}" for error in errors)
        with self._path.open("ab", buffering=0) as file:
            append_whole(file, _lines([{"phase": phase, "step": step, **numbers}]).encode())
        data = {f"{phase}/{key}": value for key, value in row.items() if isinstance(value, float)}
        data |= {f"{phase}/validation_mm/stage_{stage}": error for stage, error in enumerate(errors)}
        for logger in self._loggers:
            logger.log(data, step=self._offsets[phase] + step)


def _keep_rows(path: Path, done: Mapping[str, int]) -> None:
    """Rewrites a table with its header and the rows up to the last valid steps."""
    rows: list[dict[str, str]] = []
    if done and path.exists():
        with path.open(newline="") as file:
            rows = [row for row in csv.DictReader(file) if int(row["step"]) <= done.get(row["phase"], -1)]
    write_atomic(path, ",".join(_FIELDS) + "\r\n" + _lines(rows))


def _lines(rows: Sequence[Mapping[str, object]]) -> str:
    text = io.StringIO(newline="")
    csv.DictWriter(text, _FIELDS, restval="").writerows(rows)
    return text.getvalue()
