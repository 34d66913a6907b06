# SPDX-License-Identifier: MIT
"""Loads the compiled ops and says which of their builds the Python functions call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch  # before _C, which needs the libraries that torch loads

import poseren_ext._C as _C
from poseren_ext.ops import _registrations

_registrations.register("poseren")

ops: Any = torch.ops.poseren
"""The compiled ops, with positional arguments as in csrc/ops/schema.cpp. Look it up at each call: it may change."""

build_info = _C.build_info


def call(name: str, *args: Any) -> Any:
    """``ops.<name>(*args)`` of an op that Python records, on a shorter way where there is one."""
    return _registrations.straight[ops.name, name](*args)


def extension_file() -> Path:
    """The compiled extension module; the library of the ops lies beside it."""
    return Path(_C.__file__)


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
