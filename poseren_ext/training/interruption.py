# SPDX-License-Identifier: MIT
"""Deferred Ctrl-C and SIGTERM: they wait for the end of an update, so that weights are never saved half updated."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Terminated(KeyboardInterrupt):
    """SIGTERM arrived."""


class Interruption:
    """Converts SIGINT and SIGTERM to exceptions; inside :meth:`deferred` they are raised at its end."""

    def __init__(self) -> None:
        self._deferring = False
        self._pending: type[KeyboardInterrupt] | None = None

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handles the signals if called in the main thread; does nothing in other threads."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self._receive) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Holds signals back until the block ends."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._pending is not None:
            pending, self._pending = self._pending, None
            raise pending

    def _receive(self, number: int, frame: FrameType | None) -> None:
        received = Terminated if number == signal.SIGTERM else KeyboardInterrupt
        if not self._deferring:
            raise received
        self._pending = received
