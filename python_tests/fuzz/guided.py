# SPDX-License-Identifier: MIT
"""Coverage guidance of the fuzzer: lines of the Python code and basic blocks of the native code."""

from __future__ import annotations

import ctypes
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, SourceFileLoader
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any

PACKAGE = "poseren_ext"


class PlainSources(MetaPathFinder):
    """Loads the package's sources with Python's own loader: atheris cannot instrument editable installs."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """What the finders behind this one find, if it is a source of the package."""
        if fullname.partition(".")[0] != PACKAGE:
            return None
        for finder in sys.meta_path[sys.meta_path.index(self) + 1 :]:
            spec = finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.origin and spec.origin.endswith(".py"):
                    spec.loader = SourceFileLoader(fullname, spec.origin)
                return spec
        return None


@contextmanager
def instrumented(atheris: Any) -> Iterator[None]:
    """Modules of the package that are imported within this block are instrumented."""
    assert PACKAGE not in sys.modules, "it would not be watched"
    plain = PlainSources()
    sys.meta_path.insert(0, plain)
    try:
        with atheris.instrument_imports(include=[PACKAGE]):
            yield
    finally:
        sys.meta_path.remove(plain)


def watch_native_code() -> bool:
    """Pass the coverage tables of the native code to libFuzzer; False if the build has none (POSEREN_COVERAGE)."""
    from poseren_ext import _C

    library = ctypes.CDLL(str(Path(_C.__file__).with_name("libposeren_ops.so")))
    if not hasattr(library, "poseren_coverage"):
        return False
    counters, blocks = ctypes.c_void_p(), ctypes.c_void_p()
    library.poseren_coverage.restype = ctypes.c_size_t
    count = library.poseren_coverage(ctypes.byref(counters), ctypes.byref(blocks))
    engine = _engine()
    for name, table, size in (("8bit_counters", counters, 1), ("pcs", blocks, 2 * ctypes.sizeof(ctypes.c_void_p))):
        begin = table.value or 0
        getattr(engine, f"__sanitizer_cov_{name}_init")(ctypes.c_void_p(begin), ctypes.c_void_p(begin + count * size))
    return True


def _engine() -> ctypes.CDLL:
    """The running libFuzzer: a preloaded one, or that of atheris."""
    everyone = ctypes.CDLL(None)
    if hasattr(everyone, "LLVMFuzzerRunDriver"):
        return everyone
    from atheris import core_with_libfuzzer

    return ctypes.CDLL(core_with_libfuzzer.__file__)


def drive(
    atheris: Any,
    target: Any,
    folder: Path,
    seeds: list[bytes],
    seconds: float,
    seed: int,
    done: Callable[[int, int], None],
) -> None:
    """Runs libFuzzer on a target until the time is over, then ends the process: with 0, after `done`, or at a finding.

    Args:
        atheris: the module.
        target: runs an input; every input lies in the folder's case file first, should the process end in it.
        folder: case file, and the folder `corpus` of inputs that reached something new, which is used again.
        seeds: to begin with.
        seconds: how long.
        seed: of the mutations.
        done: called with the numbers of inputs tried and accepted.
    """
    corpus, given = folder / "corpus", folder / "seeds"
    for part in (corpus, given):
        part.mkdir(parents=True, exist_ok=True)
    for index, data in enumerate(seeds):
        (given / str(index)).write_bytes(data)
    path, count, end = folder / f"case{target.suffix}", [0, 0], time.monotonic() + seconds

    def one(data: bytes) -> None:
        if time.monotonic() > end:
            done(*count)
            sys.stdout.flush()
            os._exit(0)
        count[0] += 1
        count[1] += target.run(path, data)

    def mutate(data: bytes, most: int, draw: int) -> bytes:
        return bytes(target.mutate(Random(draw), data)[:most])

    longest = 2 * max(map(len, seeds))
    options = [f"-max_total_time={int(seconds) + 120}", f"-seed={seed % 2**31}", f"-max_len={longest}", "-timeout=60"]
    options += ["-rss_limit_mb=4096", f"-artifact_prefix={folder}/", "-len_control=0", "-mutate_depth=1"]
    atheris.Setup([sys.argv[0], *options, str(corpus), str(given)], one, custom_mutator=mutate)
    atheris.Fuzz()
