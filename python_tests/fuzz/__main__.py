# SPDX-License-Identifier: MIT
"""`python -m fuzz [TARGET ...] --seconds N --jobs N`: fuzzes readers and ops, one process per target.

TARGET is `readers`, `native` or the name of one. atheris drives them if it is installed (Python 3.11 to 3.13):
it generates input that reaches new lines of the Python code and, in a build with POSEREN_COVERAGE, new blocks of our
native code; otherwise a seeded generator is used. Input that reached new code is kept in --corpus for the next run; a
finding in `corpus/`, where the tests replay it.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

from fuzz import NATIVE, READERS

FINDINGS = Path(__file__).parent / "corpus"
GROUPS = {"readers": READERS, "native": NATIVE}
ROOM = 4 << 30
"""Bytes of address space that a target may take beyond what the imports took."""


def main() -> None:
    """Run all or the named targets; the exit status is not 0 if there are findings."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", default=list(GROUPS))
    parser.add_argument("--seconds", type=int, default=30, help="for each target")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the mutations")
    parser.add_argument("--corpus", type=Path, help="folder of inputs that reached something new; read and added to")
    parser.add_argument("--sanitizers", help="runtimes to preload for a build with sanitizers, where atheris has none")
    parser.add_argument("--here", type=Path, help="one target in this process, its files in this folder")
    arguments = parser.parse_args()
    if arguments.here:
        sys.exit(fuzz(arguments.targets[0], arguments.here, arguments.seconds, arguments.seed))
    names = [name for target in arguments.targets for name in GROUPS.get(target, (target,))]
    with tempfile.TemporaryDirectory() as temporary, ThreadPoolExecutor(arguments.jobs) as pool:
        folder = arguments.corpus or Path(temporary)
        failed = [
            *filter(None, pool.map(lambda name: _in_a_process(name, folder / _file_name(name), arguments), names))
        ]
    if failed:
        sys.exit(f"fuzz: findings in {', '.join(failed)}; what led to them is in {FINDINGS}")


def _in_a_process(name: str, folder: Path, arguments: argparse.Namespace) -> str:
    """Fuzz a target in a process; if the process fails, keep and show its input and return the name."""
    folder.mkdir(parents=True, exist_ok=True)
    for case in folder.glob("case*"):  # of another time
        case.unlink()
    command = [sys.executable, "-m", "fuzz", name, "--here", str(folder), f"--seconds={arguments.seconds}"]
    done = subprocess.run(
        [*command, f"--seed={arguments.seed}"],
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, **_environment(arguments)},
    )
    reports = [line for line in done.stdout.splitlines() if line.startswith("fuzz: ") and "no finding" in line]
    if done.returncode == 0 and reports:
        print(reports[-1], flush=True)
        return ""
    print(f"fuzz: {name}: FINDING (status {done.returncode})\n{done.stdout[-4000:]}{done.stderr[-20000:]}", flush=True)
    for case in folder.glob("case*"):
        print(f"fuzz: kept as {keep(name, case.read_bytes())}", flush=True)
    return name


def _environment(arguments: argparse.Namespace) -> dict[str, str]:
    """Environment that shares the cores among the jobs and preloads the sanitizers."""
    shared = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // arguments.jobs))}
    if arguments.sanitizers is None:
        return shared
    runtimes = arguments.sanitizers
    if find_spec("atheris"):  # its runtime holds its fuzzer too, which finds the mutator only among what is preloaded
        from atheris import path

        (mutator,) = (Path(path()) / "atheris").glob("custom_mutator.*.so")
        runtimes = f"{path()}/asan_with_fuzzer.so {mutator}"
    options = {"ASAN_OPTIONS": "detect_leaks=0", "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1"}
    return {**shared, **options, "LD_PRELOAD": runtimes, "POSEREN_SANITIZERS": "address, undefined"}


def fuzz(name: str, folder: Path, seconds: float, seed: int) -> int:
    """Fuzz one target in this process; not 0 if there is a finding, which is the case file of the folder."""
    warnings.simplefilter("ignore")
    print(f"fuzz: {name}: seed {seed}", flush=True)
    try:
        import atheris

        from fuzz.guided import drive, instrumented, watch_native_code
    except ModuleNotFoundError:
        return _generate(name, _target(name), folder, seconds, seed)
    with instrumented(atheris):
        target = _target(name)
    driver = "atheris" if not watch_native_code() or name not in NATIVE else "atheris, native blocks"

    def done(tried: int, accepted: int) -> None:
        kept_inputs = len(list((folder / "corpus").iterdir()))
        assert kept_inputs or seconds < 5, "no input reached anything new: is the code watched?"
        _report(name, tried, accepted, driver, corpus=kept_inputs, seconds=round(seconds))

    _limit_memory()
    drive(atheris, target, folder, _seeds(name, target), seconds, seed, done)
    return 0


def _target(name: str) -> Any:
    from fuzz.op_targets import NATIVE_TARGETS
    from fuzz.targets import TARGETS

    return {**TARGETS, **NATIVE_TARGETS}[name]


def _generate(name: str, target: Any, folder: Path, seconds: float, seed: int) -> int:
    random, seeds, path = Random(seed), _seeds(name, target), folder / f"case{target.suffix}"
    _limit_memory()
    tried, accepted, end = 0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        data = target.mutate(random, random.choice(seeds))
        tried += 1
        try:
            accepted += target.run(path, data)
        except Exception:
            traceback.print_exc()
            return 1
    _report(name, tried, accepted, "generator", seconds=round(seconds))
    return 0


def _report(name: str, tried: int, accepted: int, driver: str, **numbers: int) -> None:
    from helpers.trust_record import record

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    sanitized = os.environ.get("POSEREN_SANITIZERS", "")
    record("fuzz", name, driver=driver, sanitizers=sanitized, tried=tried, accepted=accepted, **numbers, peak_mib=peak)
    how = f"{driver}{', ' + sanitized if sanitized else ''}"
    more = "".join(f", {label} {value}" for label, value in numbers.items())
    print(f"fuzz: {name}: {tried} inputs ({how}), {accepted} accepted, no finding{more}, peak {peak} MiB", flush=True)


def _seeds(name: str, target: Any) -> list[bytes]:
    return list(target.seeds()) + [path.read_bytes() for path in kept(name)]


def kept(name: str) -> list[Path]:
    """Earlier findings."""
    return sorted(FINDINGS.glob(f"{_file_name(name)}-*"))


def keep(name: str, data: bytes) -> Path:
    """Store a finding where the tests replay it."""
    path = FINDINGS / f"{_file_name(name)}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    return path


def _file_name(name: str) -> str:
    return name.replace(" ", "_")


def _limit_memory() -> None:
    """Limit the memory, so that an excessive allocation is a MemoryError and therefore a finding."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
