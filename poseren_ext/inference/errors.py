# SPDX-License-Identifier: MIT
"""Errors of estimating hands, as types that callers can tell apart."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeAlias

Missing: TypeAlias = Literal["raise", "nan", "skip"]
"""What becomes of frames without a usable hand: an error, NaN joints, or no row."""


class NoHandError(ValueError):
    """Frames without a hand.

    Attributes:
        frames: their positions in the batch.
    """

    def __init__(self, message: str, frames: Sequence[int]) -> None:
        super().__init__(message)
        self.frames = tuple(frames)

    def __reduce__(self) -> tuple[type[NoHandError], tuple[str, tuple[int, ...]]]:
        """For pickle: errors of worker processes are sent to their parent."""
        return type(self), (str(self), self.frames)


class HandDistanceError(ValueError):
    """A hand nearer or farther than depth cameras see hands: most often the depth unit is wrong."""


def check_missing(missing: object) -> None:
    """Check a value of the parameter ``missing``.

    Raises:
        ValueError: It is not one of `Missing`.
    """
    if missing not in ("raise", "nan", "skip"):
        raise ValueError(f"missing is {missing!r}; expected 'raise', 'nan' (NaN joints) or 'skip' (no row)")


@contextmanager
def naming_frame(index: int) -> Iterator[None]:
    """Errors of a frame that was estimated alone name its position in the caller's list."""
    try:
        yield
    except NoHandError as error:
        raise NoHandError(f"frame {index} of the list: {error}", [index]) from None
    except (ValueError, TypeError) as error:
        raise type(error)(f"frame {index} of the list: {error}") from None
