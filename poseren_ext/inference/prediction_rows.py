# SPDX-License-Identifier: MIT
"""Outcomes of frames as the rows of a file, and their writer to a stream."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from poseren_ext.geometry.skeleton import Skeleton
from poseren_ext.inference.hand_pose import UNCERTAIN_MM
from poseren_ext.io import joint_files
from poseren_ext.io.joint_files import Format, JointRows, joint_rows
from poseren_ext.io.joint_layout import JointLayout

Missing: TypeAlias = Literal["skip", "nan", "stop"]


@dataclass(frozen=True)
class FrameOutcome:
    """What became of a frame.

    Attributes:
        uvd: [J, 3]: pixels, pixels, mm; None without a result.
        xyz: [J, 3]: mm, camera frame.
        hand: "left" or "right".
        error_mm: predicted mean joint error, mm; NaN where the model does not predict it.
        reason: why there is no result.
        others: the other hands of the frame.
    """

    uvd: npt.NDArray[Any] | None = None
    xyz: npt.NDArray[Any] | None = None
    hand: str = ""
    error_mm: float = float("nan")
    reason: str = ""
    others: tuple[FrameOutcome, ...] = ()


class PredictionRows:
    """Outcomes as the rows of a file: in its layout, frames without a result as the caller wants them."""

    def __init__(
        self,
        names: Sequence[str],
        skeleton: Skeleton,
        layout: JointLayout,
        file_format: Format,
        policy: Missing,
        where: str,
    ) -> None:
        self.names = names
        self.missing: dict[int, str] = {}
        self.uncertain: dict[int, float] = {}
        self.missing_joints = layout.missing_joints(skeleton)
        self.done = 0
        self._skeleton, self._layout, self._format, self._policy = skeleton, layout, file_format, policy
        self._where = where
        joint_files.require_format(file_format)

    @property
    def _joints(self) -> int:
        return len(self._layout.joint_names(self._skeleton))

    def _header(self) -> str:
        return joint_files.header_line(self._layout.joint_names(self._skeleton), self._layout.space)

    def _take(self, outcomes: Sequence[FrameOutcome]) -> JointRows:
        """The rows of the next frames.

        Raises:
            ValueError: a frame has no result and the policy is "stop"; the frames before it are not lost.
        """
        rows: list[tuple[str, int, str, float, npt.NDArray[Any]]] = []
        for index, outcome in enumerate(outcomes, self.done):
            if outcome.uvd is None:
                self.missing[index] = outcome.reason
                if self._policy == "skip":
                    continue
            for hand_id, hand in enumerate((outcome, *outcome.others)):
                values = np.full((self._joints, 3), np.nan)
                if hand.uvd is not None:
                    values = np.asarray(self._layout.apply(hand.uvd, hand.xyz, self._skeleton), np.float64)
                if hand.error_mm > UNCERTAIN_MM:
                    self.uncertain[index] = max(round(hand.error_mm, 1), self.uncertain.get(index, 0.0))
                rows.append((self.names[index], hand_id, hand.hand, hand.error_mm, values))
        self.done += len(outcomes)
        return joint_rows(rows, self._joints)

    def _stop_at(self, outcomes: Sequence[FrameOutcome]) -> tuple[Sequence[FrameOutcome], str]:
        """The outcomes up to the first without a result where that ends the run, and why it does."""
        for place, outcome in enumerate(outcomes):
            if outcome.uvd is None and self._policy == "stop":
                kept = self.done + place
                note = f"; the {kept} frames before it are in {self._where}" if kept else ""
                return outcomes[:place], f"{self.names[kept]}: {outcome.reason}{note}"
        return outcomes, ""

    def _require_result(self) -> None:
        """Fail when no frame has a result, with the most frequent reason."""
        if self.names and len(self.missing) == len(self.names):
            reasons = list(self.missing.values())
            common = max(set(reasons), key=reasons.count)
            first = next(index for index, reason in self.missing.items() if reason == common)
            raise ValueError(f"none of {len(self.names)} frames has a result; {self.names[first]}: {common}")


class PredictionStream(PredictionRows):
    """Predictions to an open binary stream, such as standard output: nothing is recorded or resumed."""

    def __init__(
        self,
        stream: Any,
        names: Sequence[str],
        skeleton: Skeleton,
        layout: JointLayout,
        file_format: Format | None,
        missing: Missing,
    ) -> None:
        super().__init__(names, skeleton, layout, file_format or "txt", missing, "the output")
        self._stream: IO[bytes] = stream
        self._kept: list[JointRows] = []
        if self._format == "csv":
            self._stream.write(self._header().encode())

    def write(self, outcomes: Sequence[FrameOutcome]) -> None:
        """Write the next frames; formats that do not grow are written by `finish`.

        Raises:
            ValueError: a frame has no result and the policy is "stop".
        """
        outcomes, fault = self._stop_at(outcomes)
        rows = self._take(outcomes)
        if self._format in joint_files.GROWING:
            text = joint_files.text_lines(self._format, rows, self._layout.decimals)
            self._stream.write(text.encode("utf-8", "surrogateescape"))
            self._stream.flush()
        else:
            self._kept.append(rows)
        if fault:
            raise ValueError(fault)

    def finish(self) -> None:
        """Write what is left.

        Raises:
            ValueError: no frame has a result.
        """
        self._require_result()
        if self._format not in joint_files.GROWING:
            rows = joint_rows([row for part in self._kept for row in part], self._joints)
            about = {**self._layout.describe(self._skeleton), "missing": missing_entries(self.missing, self.names)}
            joint_files.write_rows(self._stream, self._format, rows, about)
        self._stream.flush()


def missing_entries(missing: dict[int, str], names: Sequence[str]) -> list[dict[str, str]]:
    """Name and reason of each frame without a result, in the order of the frames."""
    return [{"frame": names[index], "reason": reason} for index, reason in sorted(missing.items())]
