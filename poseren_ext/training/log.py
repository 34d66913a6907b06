# SPDX-License-Identifier: MIT
"""Log of a training run: a CSV table, and optional TensorBoard events."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from poseren_ext._utils.atomic_files import append_whole, write_atomic

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

TENSORBOARD = "tensorboard"
"""Name of the folder of TensorBoard events."""

_FIELDS = ("phase", "step", "loss", "learning_rate", "samples_per_second", "validation_mm")


class Journal:
    """log.csv with a row every few steps, and a folder `tensorboard` with the same numbers over all steps.

    Args:
        folder: folder of the run.
        done: last valid step of each phase. Later rows are dropped, because the resumed run repeats their steps. Empty
            for a new run.
        offsets: number of steps before each phase, added on TensorBoard's axis.
        tensorboard: whether to write TensorBoard events.

    Raises:
        ImportError: TensorBoard is requested but not installed.
    """

    def __init__(
        self, folder: Path, done: Mapping[str, int], offsets: Mapping[str, int], *, tensorboard: bool = False
    ) -> None:
        self._path = folder / "log.csv"
        self._offsets = offsets
        last = max((offsets[phase] + step for phase, step in done.items()), default=-1)
        self._events = _open_events(folder / TENSORBOARD, last + 1) if tensorboard else None
        _keep_rows(self._path, done)

    def write(self, phase: str, step: int, row: Mapping[str, Any]) -> None:
        """Write a row: "loss", "learning_rate", "samples_per_second", and "validation_mm" if it was measured."""
        errors: Sequence[float] = row.get("validation_mm", ())
        numbers = {key: f"{value:.6g}" for key, value in row.items() if isinstance(value, float)}
        if errors:
            numbers["validation_mm"] = " ".join(f"{error:.3f}" for error in errors)
        with self._path.open("ab", buffering=0) as file:
            append_whole(file, _lines([{"phase": phase, "step": step, **numbers}]).encode())
        if self._events is None:
            return
        at = self._offsets[phase] + step
        for key, value in row.items():
            if isinstance(value, float):
                self._events.add_scalar(f"{phase}/{key}", value, at)  # type: ignore[no-untyped-call]
        for stage, error in enumerate(errors):
            self._events.add_scalar(f"{phase}/validation_mm/stage_{stage}", error, at)  # type: ignore[no-untyped-call]
        self._events.flush()  # type: ignore[no-untyped-call]


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


def _open_events(folder: Path, first: int) -> SummaryWriter:
    """TensorBoard writer that discards earlier records of steps from `first` on."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ImportError(
            "tensorboard=true needs TensorBoard: pip install 'poseren_ext[train]', or leave it out; log.csv has the "
            "same numbers"
        ) from error
    return SummaryWriter(str(folder), purge_step=first)  # type: ignore[no-untyped-call]
