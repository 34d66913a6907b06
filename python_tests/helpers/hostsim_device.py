# SPDX-License-Identifier: MIT
"""The hostsim build of the ops: the CUDA kernels of csrc/cuda, executed on the CPU (docs/cuda.md)."""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from poseren_ext.ops import _native

NAMESPACE = "poseren_hostsim"
ROOT = Path(__file__).parents[2]
CUDA_SOURCES = ROOT / "csrc" / "cuda"
ORDERS = ("forward", "reverse", "random:1", "random:2")
"""In which a block's threads and a grid's blocks take their turns."""


@cache
def missing() -> str:
    """Loads the library at the first call; says what is missing when there is none."""
    if not _library().exists():
        if "POSEREN_HOSTSIM_LIBRARY" in os.environ:
            pytest.fail(f"POSEREN_HOSTSIM_LIBRARY names {_library()}, which does not exist")
        return "hostsim is not built (`make test` builds it): the CUDA kernels were not executed"
    _native.load_namespace(str(_library()), NAMESPACE)
    return ""


@contextmanager
def thread_order(order: str) -> Iterator[None]:
    """Within it, threads and blocks run in that order; afterwards again as POSEREN_HOSTSIM_ORDER says."""
    assert _c().hostsim_set_order(order.encode()) == 0
    try:
        yield
    finally:
        _c().hostsim_set_order(os.environ.get("POSEREN_HOSTSIM_ORDER", "forward").encode())


def launches() -> dict[str, int]:
    """How often each kernel has run since the library was loaded, by its name."""
    size = _c().hostsim_launch_counts(None, 0)
    text = ctypes.create_string_buffer(size)
    _c().hostsim_launch_counts(text, size)
    return {name: int(count) for name, count in (line.split() for line in text.value.decode().splitlines())}


def declared_kernels() -> set[str]:
    """The names of all ``__global__`` functions of csrc/cuda."""
    names = set()
    for path in sorted(CUDA_SOURCES.iterdir()):
        text = re.sub(r"//.*", "", path.read_text(encoding="utf-8"))
        found = re.findall(r"__global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(", text)
        assert len(found) == text.count("__global__"), f"{path.name} declares a kernel in a way that this test misses"
        names.update(found)
    return names


def launches_if_loaded() -> dict[str, int]:
    """As :func:`launches`; nothing in a process whose tests did not use hostsim."""
    return launches() if missing.cache_info().currsize and not missing() else {}


def summary(counts: Mapping[str, int]) -> str:
    """One line for the end of a test run about its ``launches``."""
    if not _library().exists():
        return missing()
    declared = declared_kernels()
    ran = sorted(declared & counts.keys())
    return (
        f"hostsim executed {len(ran)} of the {len(declared)} CUDA kernels in csrc/cuda, "
        f"{sum(counts.values())} launches: {', '.join(ran)}"
    )


def _library() -> Path:
    """What POSEREN_HOSTSIM_LIBRARY names, or a library installed with the package, or the one of `make test`."""
    if named := os.environ.get("POSEREN_HOSTSIM_LIBRARY"):
        return Path(named)
    installed = Path(_native._C.__file__).with_name("libposeren_hostsim.so")
    return installed if installed.exists() else ROOT / "build" / "hostsim" / installed.name


@cache
def _c() -> ctypes.CDLL:
    library = ctypes.CDLL(str(_library()))
    library.hostsim_launch_counts.restype = ctypes.c_size_t
    library.hostsim_launch_counts.argtypes = [ctypes.c_char_p, ctypes.c_size_t]
    return library
