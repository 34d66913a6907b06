# SPDX-License-Identifier: MIT
"""Loads the compiled ops and says which of their builds the Python functions call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch  # before _C, which needs the libraries that torch loads

from poseren_ext import _C, _registrations

_registrations.register("poseren")

ops: Any = torch.ops.poseren
"""The compiled ops, with positional arguments as in csrc/ops/schema.cpp. Look it up at each call: it may change."""

build_info = _C.build_info


def load_namespace(library: str, namespace: str) -> None:
    """Loads another build of the ops, which registers itself as ``torch.ops.<namespace>``.

    Raises:
        OSError: the library cannot be loaded.
    """
    torch.ops.load_library(library)  # type: ignore[no-untyped-call]
    _registrations.register(namespace)


@contextmanager
def use_namespace(namespace: str) -> Iterator[None]:
    """Within it, the Python functions call ``torch.ops.<namespace>``. For the tests; not thread-safe."""
    global ops
    previous, ops = ops, getattr(torch.ops, namespace)
    try:
        yield
    finally:
        ops = previous
