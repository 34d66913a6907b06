# SPDX-License-Identifier: MIT
"""`python -m fuzz [TARGET ...] --seconds N`: hostile input to readers and ops, a process each.

Readers are driven by atheris where it is installed (Python 3.11 to 3.13): it looks for input that reaches new lines of
our code; elsewhere, and for ops, by a seeded generator. A finding is kept in `corpus/`, where the tests replay it.
"""

from __future__ import annotations

import argparse
import hashlib
import resource
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fuzz.targets import Target

READERS = (
    *("png", "bin", "npy", "npz", "labels", "continued labels", "table", "training toml", "model json", "model"),
    *("checkpoint", "pack", "caffemodel"),
)
OPS = (
    *("hand_center", "depth_crop", "normalize_pose", "denormalize_pose", "roi_windows", "pose_roi_pool"),
    "cascade_refine",
)
ROOM = 4 << 30
"""Bytes of address space that a target may take beyond what the imports took."""


def main() -> None:
    """All targets, or those named; the exit status is the number of findings."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("targets", nargs="*", default=[*READERS, *OPS])
    parser.add_argument("--seconds", type=int, default=30, help="for each target")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the generator")
    parser.add_argument("--here", action="store_true", help="in this process")
    arguments = parser.parse_args()
    if arguments.here:
        sys.exit(fuzz(arguments.targets[0], arguments.seconds, arguments.seed))
    failed = []
    for name in arguments.targets:
        command = [sys.executable, "-m", "fuzz", name, "--here", f"--seconds={arguments.seconds}"]
        done = subprocess.run([*command, f"--seed={arguments.seed}"], capture_output=True, text=True)
        report = [line for line in done.stdout.splitlines() if line.startswith("fuzz:")]
        print(report[-1] if report and done.returncode == 0 else f"fuzz: {name}: FINDING\n{done.stdout}{done.stderr}")
        failed += [name] * (done.returncode != 0)
    if failed:
        sys.exit(f"fuzz: findings in {', '.join(failed)}; what led to them is in {Path(__file__).parent / 'corpus'}")


def fuzz(name: str, seconds: float, seed: int) -> int:
    """One target in this process; 0, or 1 with a finding kept and shown."""
    warnings.simplefilter("ignore")
    print(f"fuzz: {name}: seed {seed}", flush=True)
    if name in OPS:
        return _fuzz_op(name, seconds, seed)
    try:
        import atheris

        with atheris.instrument_imports(include=["poseren_ext"]):
            from fuzz.targets import TARGETS
    except ModuleNotFoundError:
        from fuzz.targets import TARGETS

        atheris = None
    target = TARGETS[name]
    _limit_memory()
    if atheris is None:
        return _fuzz_plainly(name, target, seconds, seed)
    return _fuzz_with_coverage(atheris, name, target, seconds, seed)


def _fuzz_op(name: str, seconds: float, seed: int) -> int:
    from fuzz.op_cases import run

    tried, accepted, end = 0, 0, time.monotonic() + seconds
    while time.monotonic() < end:
        case = f"{name} {seed}.{tried}"
        tried += 1
        try:
            accepted += run(name, Random(case))
        except Exception:
            traceback.print_exc()
            print(f"fuzz: repeat it with run({name!r}, Random({case!r}))", file=sys.stderr)
            return 1
    _report(name, tried, accepted)
    return 0


def _fuzz_plainly(name: str, target: Target, seconds: float, seed: int) -> int:
    random, seeds = Random(seed), _seeds(name, target)
    tried, accepted, end = 0, 0, time.monotonic() + seconds
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"case{target.suffix}"
        while time.monotonic() < end:
            data = target.mutate(random, random.choice(seeds))
            tried += 1
            try:
                accepted += target.run(path, data)
            except Exception:
                traceback.print_exc()
                print(f"fuzz: kept as {keep(name, data)}", file=sys.stderr)
                return 1
    _report(name, tried, accepted)
    return 0


def _fuzz_with_coverage(atheris: Any, name: str, target: Target, seconds: float, seed: int) -> int:
    """By libFuzzer, which ends the process: with 0 after the time, with another status at a finding."""
    with tempfile.TemporaryDirectory() as folder:
        path, seeds, count = Path(folder) / f"case{target.suffix}", Path(folder) / "seeds", [0, 0]
        seeds.mkdir()
        for index, data in enumerate(_seeds(name, target)):
            (seeds / str(index)).write_bytes(data)

        end = time.monotonic() + seconds

        def one(data: bytes) -> None:
            count[0] += 1
            try:
                count[1] += target.run(path, data)
            except Exception:
                print(f"fuzz: kept as {keep(name, data)}", file=sys.stderr)
                raise
            if time.monotonic() > end:
                _report(name, *count, driver="atheris")
                sys.stdout.flush()

        def mutate(data: bytes, most: int, draw: int) -> bytes:
            return target.mutate(Random(draw), data)[:most]

        longest = 2 * max(map(len, _seeds(name, target)))
        options = [f"-max_total_time={int(seconds) + 1}", f"-seed={seed % 2**31}", f"-max_len={longest}", "-timeout=30"]
        options += ["-rss_limit_mb=4096", f"-artifact_prefix={folder}/", "-len_control=0"]
        atheris.Setup([sys.argv[0], *options, str(seeds)], one, custom_mutator=mutate)
        atheris.Fuzz()
    return 0


def _report(name: str, tried: int, accepted: int, driver: str = "generator") -> None:
    from trust_record import record

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    record("fuzz", name, driver=driver, tried=tried, accepted=accepted, peak_mib=peak)
    print(f"fuzz: {name}: {tried} inputs ({driver}), {accepted} accepted, no finding, peak {peak} MiB")


def _seeds(name: str, target: Target) -> list[bytes]:
    return target.seeds() + [path.read_bytes() for path in kept(name)]


def kept(name: str) -> list[Path]:
    """Files that were findings once."""
    from fuzz.targets import CORPUS

    return sorted(CORPUS.glob(f"{name.replace(' ', '_')}-*"))


def keep(name: str, data: bytes) -> Path:
    """Puts a finding into the corpus."""
    from fuzz.targets import CORPUS

    path = CORPUS / f"{name.replace(' ', '_')}-{hashlib.sha256(data).hexdigest()[:12]}"
    path.write_bytes(data)
    return path


def _limit_memory() -> None:
    """An allocation that a file talked a reader into is a MemoryError, hence a finding."""
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + ROOM, resource.RLIM_INFINITY))


if __name__ == "__main__":
    main()
