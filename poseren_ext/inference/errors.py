# SPDX-License-Identifier: MIT
"""Errors of estimating hands, as types that callers can tell apart."""

from __future__ import annotations

from collections.abc import Sequence


class NoHandError(ValueError):
    """Frames without a hand.

    Attributes:
        frames: their positions in the batch.
    """

    def __init__(self, message: str, frames: Sequence[int]) -> None:
        super().__init__(message)
        self.frames = tuple(frames)


class HandDistanceError(ValueError):
    """A hand nearer or farther than depth cameras see hands: most often the depth unit is wrong."""
