# SPDX-License-Identifier: MIT
"""A file of predictions that grows, and the record next to it by which an interrupted run is continued."""

from __future__ import annotations

import csv
import fcntl
import hashlib
import json
import os
from collections.abc import Sequence
from io import FileIO
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from poseren_ext._utils.atomic_files import append_whole, write_atomic
from poseren_ext.geometry.skeleton import Skeleton
from poseren_ext.inference.prediction_rows import (
    FrameOutcome,
    Missing,
    PredictionRows,
    missing_entries,
)
from poseren_ext.io import joint_files
from poseren_ext.io.joint_files import Format
from poseren_ext.io.joint_layout import JointLayout
from poseren_ext.models import PoseREN
from poseren_ext.models.files import BOTH, BUNDLED, load_model

RECORD = "poseren prediction record"
VERSION = 1


def digest(*parts: Any) -> str:
    """SHA-256 of arrays and texts, with their shapes and types."""
    result = hashlib.sha256()
    for part in parts:
        if isinstance(part, str):
            result.update(part.encode())
        else:
            array = np.ascontiguousarray(part)
            result.update(f"{array.dtype.str}{array.shape}".encode())
            result.update(array.data if array.size else b"")
    return result.hexdigest()


def weights_digest(model: PoseREN | str | os.PathLike[str]) -> str:
    """SHA-256 of a model's configuration and weights, whatever file they come from; of all models that "both" names."""
    parts: list[Any] = []
    for loaded in (load_model(one) for one in (BUNDLED if model == BOTH else (model,))):
        parts.append(loaded.config.to_json())
        for name, tensor in sorted(loaded.state_dict().items()):
            parts += [name, tensor.detach().cpu().numpy()]
    return digest(*parts)


class PredictionFile(PredictionRows):
    """Predictions in a file that grows, locked against a second run, with its record.

    Text and CSV files grow in place. The other formats grow as FILE.partial and are written whole at the end.

    Args:
        out: the file.
        names: of all frames.
        skeleton: of the model.
        layout: of the joints.
        file_format: default: by the ending, else txt.
        missing: what becomes of frames without a result.
        settings: of the run, by name.
        digests: of what the settings only name.
        resume: continue a file that exists.
        overwrite: replace a file that exists.

    Attributes:
        done: frames that are done.
        missing: index and reason of the frames without a result.
        uncertain: index and predicted error in mm of the frames where it is above `UNCERTAIN_MM`.

    Raises:
        FileExistsError: the file exists and may be neither continued nor replaced; or the record's name is taken by a
            file that is not such a record.
        FileNotFoundError: the folder does not exist.
        ValueError: the file was made with other settings, or from other frames.
        OSError: Another run is writing to the file.
    """

    def __init__(
        self,
        out: Path,
        names: Sequence[str],
        skeleton: Skeleton,
        layout: JointLayout,
        file_format: Format | None,
        missing: Missing,
        *,
        settings: dict[str, Any],
        digests: dict[str, str],
        resume: bool,
        overwrite: bool,
    ) -> None:
        chosen = joint_files.format_of(out, file_format)
        super().__init__(names, skeleton, layout, chosen, missing, str(out))
        self.path = out
        self.record = out.with_name(f"{out.name}.json")
        grows = chosen in joint_files.GROWING
        self._growing = out if grows else out.with_name(f"{out.name}.partial")
        self._head = self._header() if chosen != "txt" else ""
        self._several = settings.get("max_hands", 1) > 1
        if not out.parent.is_dir():
            raise FileNotFoundError(f"cannot write {out}: there is no folder {out.parent}; create it first")
        self._settings = {
            "settings": settings,
            "digests": digests,
            "layout": {**layout.describe(skeleton), "format": chosen},
        }
        before = self._read_record()
        if not overwrite and not resume:
            for path in (out, self._growing):
                if path.exists():
                    raise FileExistsError(
                        f"{path} exists; resume=True continues it, overwrite=True replaces it, or choose another name"
                    )
        self._complete = False
        self._file = self._lock()
        try:
            self._begin(before, overwrite)
        except BaseException:
            self._file.close()
            raise

    def write(self, outcomes: Sequence[FrameOutcome]) -> None:
        """Add the next frames; they are on their way to the disk when this returns.

        Raises:
            ValueError: a frame has no result and the policy is "stop".
            OSError: the disk is full; the file holds the whole lines of the frames before.
        """
        before, done = (dict(self.missing), dict(self.uncertain)), self.done
        outcomes, fault = self._stop_at(outcomes)
        rows = self._take(outcomes)
        try:
            if (
                self.missing,
                self.uncertain,
            ) != before:  # before their neighbours' lines, so that lines can always be told apart
                self._write_record()
            kind: Format = "txt" if self._growing == self.path and self._format == "txt" else "csv"
            text = joint_files.text_lines(kind, rows, self._layout.decimals)
            append_whole(self._file, text.encode("utf-8", "surrogateescape"))
        except OSError as error:
            (self.missing, self.uncertain), self.done = before, done
            reason = os.strerror(error.errno) if error.errno else str(error)
            raise OSError(
                error.errno,
                f"cannot write {self.path}: {reason}; it holds {done} frames: make room, then resume",
            ) from error
        if fault:
            raise ValueError(fault)

    def finish(self) -> None:
        """Write formats that do not grow, and mark the record as complete.

        Raises:
            ValueError: no frame has a result; the file is removed, for there is nothing in it.
        """
        if self._complete:
            return
        try:
            self._require_result()
        except ValueError:
            self._growing.unlink()
            self.record.unlink()
            raise
        if self._growing != self.path:
            rows = joint_files.read_csv_rows(self._growing, self._joints)
            about = {
                **self._layout.describe(self._skeleton),
                **{key: self._settings["settings"][key] for key in ("camera",) if key in self._settings["settings"]},
                "missing": missing_entries(self.missing, self.names),
            }
            joint_files.save_rows(self.path, self._format, rows, about)
        self._complete = True
        self._write_record()
        if self._growing != self.path:
            self._growing.unlink()

    def __enter__(self) -> PredictionFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is not None and self.done == 0 and self._growing.exists():  # nothing in it is worth resuming
            self._growing.unlink()
            self.record.unlink(missing_ok=True)
        self._file.close()

    def _lock(self) -> FileIO:
        """The file that grows, open and locked until it is closed: two runs at once would write every line twice."""
        file = FileIO(self._growing, "ab")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.close()
            raise OSError(f"another run writes to {self.path}; wait for it, or choose another name") from None
        return file

    def _read_record(self) -> dict[str, Any] | None:
        """The record of an earlier run.

        Raises:
            FileExistsError: the record's name belongs to a file that is not a record.
        """
        try:
            content = self.record.read_bytes()
        except FileNotFoundError:
            return None
        try:
            record = json.loads(content)
        except ValueError:
            record = None
        if not isinstance(record, dict) or record.get("record") != RECORD:
            raise FileExistsError(
                f"{self.record} exists and is not a record of predictions, so it is left alone; move it, or choose "
                "another name for the output"
            )
        return record

    def _begin(self, before: dict[str, Any] | None, overwrite: bool) -> None:
        rows = 0
        if overwrite:
            os.ftruncate(self._file.fileno(), 0)
        elif before is not None and before.get("complete") and self._growing != self.path and self.path.exists():
            self._agree(before)
            self._resume_complete(before)
            return
        else:
            rows = self._recover()
            if rows and before is None:
                raise ValueError(
                    f"{self.path} cannot be resumed: there is no record {self.record.name} next to it; choose another "
                    "name, or overwrite=True"
                )
            if before is not None and rows:
                self._agree(before)
                self._recall(before)
        self.done = self._frames_done(rows)
        self.missing = {index: reason for index, reason in self.missing.items() if index < self.done}
        self.uncertain = {index: error for index, error in self.uncertain.items() if index < self.done}
        if self._head and not rows:
            os.ftruncate(self._file.fileno(), 0)
            append_whole(self._file, self._head.encode())
        self._write_record()

    def _resume_complete(self, before: dict[str, Any]) -> None:
        if len(before["frames"]) < len(self.names):
            raise ValueError(
                f"{self.path} is complete with {len(before['frames'])} frames; there are {len(self.names)} now, and "
                f"{self._format} files cannot grow: overwrite=True predicts all of them"
            )
        self._recall(before)
        self.done, self._complete = len(self.names), True
        self._growing.unlink(missing_ok=True)

    def _recall(self, before: dict[str, Any]) -> None:
        """Take the lists of frames from the record of an earlier run."""
        self.missing = {entry["index"]: entry["reason"] for entry in before["missing"]}
        self.uncertain = {entry["index"]: entry["error_mm"] for entry in before.get("uncertain", ())}

    def _recover(self) -> int:
        """The number of frames with rows in the file; what a killed run left unfinished at its end is dropped.

        Raises:
            ValueError: The file contains something else.
        """
        content = self._growing.read_bytes()
        whole = content.rfind(b"\n") + 1
        lines = content[:whole].split(b"\n")[:-1]
        separator, columns = (b",", len(joint_files.CSV_COLUMNS)) if self._head else (b" ", 0)
        columns += 3 * self._joints
        if self._head and lines:
            head, lines = lines[0], lines[1:]
            if head != self._head.rstrip("\n").encode():
                raise ValueError(
                    f"{self._growing}: its first line is not that of such predictions; choose another name"
                )
        for number, line in enumerate(lines, start=1):
            if line.count(separator) + 1 < columns:
                raise ValueError(f"{self._growing}, line {number}: expected {columns} values; choose another name")
        if self._several and lines:  # the last frame may lack a hand
            text = [line.decode("utf-8", "surrogateescape") for line in lines]
            first = [row[1] == "0" for row in csv.reader(text)]
            last = len(first) - 1 - first[::-1].index(True)
            whole -= sum(len(line) + 1 for line in lines[last:])
            lines = [line for line, new in zip(lines[:last], first, strict=False) if new]
        os.ftruncate(self._file.fileno(), whole)
        return len(lines)

    def _frames_done(self, rows: int) -> int:
        """How many frames a number of rows stands for: frames that were left out have none."""
        if self._policy != "skip":
            return rows
        done = 0
        while rows or done in self.missing:
            rows -= done not in self.missing
            done += 1
        return done

    def _agree(self, before: dict[str, Any]) -> None:
        """Refuse to continue a file that was made in another way.

        Raises:
            ValueError: Settings, layout or frames differ; the message names them.
        """
        differences = []
        for part in ("settings", "layout"):
            ours, theirs = self._settings[part], before.get(part, {})
            differences += [
                f"{name}={_shown(theirs.get(name))}, not {_shown(ours[name])}"
                for name in ours
                if json.dumps(theirs.get(name)) != json.dumps(ours[name])
            ]
        ours, theirs = self._settings["digests"], before.get("digests", {})
        differences += [
            f"other {name} than {_now(name)}" for name in {**ours, **theirs} if ours.get(name) != theirs.get(name)
        ]
        known = before.get("frames", [])
        if list(self.names[: len(known)]) != known:  # a recording may have grown: what is there are its first frames
            differences.append("other frames, or frames in another order")
        if before.get("missing") and before.get("missing_policy") != self._policy:
            differences.append(f"missing={before.get('missing_policy')}, not {self._policy}")
        if differences:
            raise ValueError(
                f"{self.path} was made with {'; '.join(differences)}. Choose another name, or overwrite=True"
            )

    def _write_record(self) -> None:
        record = {
            "record": RECORD,
            "version": VERSION,
            "file": self.path.name,
            "complete": self._complete,
            **self._settings,
            "missing_policy": self._policy,
            "missing": [
                {"index": index, "frame": self.names[index], "reason": reason}
                for index, reason in sorted(self.missing.items())
            ],
            "uncertain": [
                {"index": index, "frame": self.names[index], "error_mm": error}
                for index, error in sorted(self.uncertain.items())
            ],
            "frames": list(self.names),
        }
        write_atomic(self.record, json.dumps(record, indent=1) + "\n")


def _shown(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _now(name: str) -> str:
    return "the model has now" if name == "weights" else "those given now"
