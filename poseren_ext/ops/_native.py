# SPDX-License-Identifier: MIT
"""Loads the compiled operators and holds the namespace that the Python functions call."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch  # before _C, which needs the libraries that torch loads

import poseren_ext._C as _C

ops: Any = torch.ops.poseren
"""The compiled operators, with positional arguments as in csrc/ops/schema.cpp. Read at each call: it can change."""

build_info = _C.build_info


def run(name: str, *args: Any) -> Any:
    """Calls an operator.

    Raises:
        torch.OutOfMemoryError: The GPU has no memory for a result; operators themselves can raise RuntimeError only.
    """
    try:
        return getattr(ops, name)(*args)
    except RuntimeError as error:
        if "out of memory: tried to allocate" in str(error) and "on the GPU" in str(error):
            raise torch.OutOfMemoryError(str(error)) from None
        raise


def extension_file() -> Path:
    """The compiled extension module; the library of the ops lies beside it."""
    return Path(_C.__file__)


def load_namespace(library: str, namespace: str) -> None:
    """Loads another build of the operators, which registers itself as ``torch.ops.<namespace>``.

    Raises:
        OSError: The library cannot be loaded.
    """
    from poseren_ext.ops import _registrations  # which imports this module

    torch.ops.load_library(library)  # type: ignore[no-untyped-call]
    _registrations.register(namespace)


@contextmanager
def use_namespace(namespace: str) -> Iterator[None]:
    """Makes the Python functions call ``torch.ops.<namespace>`` within the block. For tests; not thread-safe."""
    global ops
    previous, ops = ops, getattr(torch.ops, namespace)
    try:
        yield
    finally:
        ops = previous
