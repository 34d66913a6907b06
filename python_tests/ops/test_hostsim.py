# SPDX-License-Identifier: MIT
"""hostsim itself: correct kernels give correct results in any order of threads, and each planted fault is detected.

The kernels of python_tests/hostsim/tests are compiled here by the host compiler: without sanitizers, with
AddressSanitizer and UBSan, and with ThreadSanitizer. The runtime itself is never instrumented.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SOURCES = Path(__file__).parents[2] / "csrc"
TESTS = Path(__file__).parents[1]
RUNTIME = sorted((TESTS / "hostsim").glob("*.cpp"))
KERNELS = [TESTS / "hostsim" / "tests" / name for name in ("checks.cu", "faults.cu", "driver.cpp")]

ORDERS = ("forward", "reverse", "random:7")
BUILDS = {
    "plain": ["-O1"],
    "address": ["-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=undefined"],
    "thread": ["-O1", "-fsanitize=thread"],
}
REPORTED_BY_RUNTIME = 3  # the driver's exit status

CORRECT = ("correct_rotation", "correct_same_warp", "correct_blocks_apart", "correct_across_grid_barrier")
RUNTIME_REPORTS = {
    "divergent_barrier": r"__syncthreads at \S*faults.cu:\d+:\d+ by block \(0,0,0\) thread .* wait at \S*faults.cu",
    "early_return": r"1 thread\(s\) of the block had already returned",
    "absent_source_lane": r"reads lane \d+, which takes no part",
    "half_a_warp": r"deadlock: 32 thread\(s\)",
    "not_in_own_mask": r"thread \(\d+,0,0\) is not in its own mask",
    "overlapping_masks": r"its mask overlaps",
    "different_operations": r"meets another at \S*faults.cu",
    "deadlock": r"deadlock: .*16 thread\(s\).*48 thread\(s\)|deadlock: .*48 thread\(s\).*16 thread\(s\)",
    "grid_barrier_without_cooperation": r"outside a cooperative launch",
    "grid_barrier_early_return": r"grid barrier at .* some threads had already returned",
    "misaligned_atomic": r"atomic on a misaligned address",
    "too_much_static_shared": r"49156 bytes of static shared memory, at most 49152",
    "static_and_dynamic_shared": r"256 bytes of static and 232448 of dynamic shared memory, together at most 232448",
    "too_much_dynamic_shared": r"232449 bytes of dynamic shared memory",
    "block_too_large": r"invalid block size",
    "grid_too_large": r"invalid grid size",
    "cooperative_grid_too_large": r"cooperative grid of 1000 blocks",
    "nested_launch": r"launched from inside a kernel",
}
ADDRESS_REPORTS = {
    "static_shared_overrun": r"heap-buffer-overflow[\s\S]*static_shared_overrun\S* \S*faults.cu",
    "dynamic_shared_overrun": r"heap-buffer-overflow[\s\S]*dynamic_shared_overrun\S* \S*faults.cu",
    "global_overrun": r"heap-buffer-overflow[\s\S]*global_overrun\S* \S*faults.cu",
    "misaligned_vector": r"faults.cu:\d+:\d+: runtime error: .*misaligned address",
}
RACES = (
    "missing_barrier",
    "warp_barrier_across_warps",
    "global_write_race",
    "race_between_blocks",
    "missing_grid_barrier",
)

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def compiler() -> list[str]:
    command = os.environ.get("CXX", "c++")
    if not shutil.which(command):
        pytest.skip(f"no C++ compiler ({command}): hostsim's own tests and faults were not run")
    return [
        command,
        "-std=c++20",
        "-g",
        "-Wall",
        "-Wextra",
        "-Wno-unknown-pragmas",
        f"-I{SOURCES}",
        f"-I{TESTS}",
        "-pthread",
    ]


@pytest.fixture(scope="session")
def objects(compiler: list[str], tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """The runtime, compiled once for all builds."""
    return _compile(compiler, ["-O2"], RUNTIME, tmp_path_factory.mktemp("runtime"))


@pytest.fixture(scope="session", params=BUILDS)
def build(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def run(compiler: list[str], objects: list[str], tmp_path_factory: pytest.TempPathFactory) -> Run:
    """run(build, *arguments, order=...) calls the driver of a build, which is made when first asked for."""
    drivers: dict[str, Path] = {}

    def driver(build: str) -> Path:
        if build not in drivers:
            folder = tmp_path_factory.mktemp(build)
            _skip_without_sanitizer(compiler, build, folder)
            kernels = _compile(compiler, BUILDS[build], KERNELS, folder)
            path = folder / "driver"
            subprocess.run([*compiler, *BUILDS[build], *kernels, *objects, "-o", path], check=True)
            drivers[build] = path
        return drivers[build]

    def run(build: str, *arguments: str, order: str = "forward") -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "POSEREN_HOSTSIM_ORDER": order, "TSAN_OPTIONS": "", "ASAN_OPTIONS": ""}
        command = [str(driver(build)), *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)

    return run


def _compile(compiler: list[str], flags: list[str], sources: list[Path], folder: Path) -> list[str]:
    def compile_one(source: Path) -> str:
        target = folder / f"{source.stem}.o"
        subprocess.run([*compiler, *flags, "-x", "c++", "-c", source, "-o", target], check=True)
        return str(target)

    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(compile_one, sources))


def _skip_without_sanitizer(compiler: list[str], build: str, folder: Path) -> None:
    trial = folder / "trial.cpp"
    trial.write_text("int main() {}\n")
    made = subprocess.run([*compiler, *BUILDS[build], trial, "-o", folder / "trial"], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"this compiler cannot link {' '.join(BUILDS[build])}: faults for that net were not run")


@pytest.mark.parametrize("order", ORDERS)
def test_correct_kernels_give_correct_results(run: Run, build: str, order: str) -> None:
    result = run(build, "check", order=order)
    assert result.returncode == 0, result.stdout + result.stderr
    assert set(re.findall(r"^ran (\w+)", result.stdout, re.MULTILINE)) == _kernels(KERNELS[0]) - {"meet"}


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("kernel", CORRECT)
def test_no_net_raises_a_false_alarm(run: Run, build: str, kernel: str, order: str) -> None:
    result = run(build, "fault", kernel, order=order)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.parametrize("fault", RUNTIME_REPORTS)
def test_the_runtime_reports(run: Run, fault: str) -> None:
    for build in ("plain", "address"):
        for order in ORDERS:
            result = run(build, "fault", fault, order=order)
            assert result.returncode == REPORTED_BY_RUNTIME, (build, order, result.stdout + result.stderr)
            assert re.search(rf"^CUDA kernel \w+: .*{RUNTIME_REPORTS[fault]}", result.stdout), (order, result.stdout)


@pytest.mark.parametrize("fault", ADDRESS_REPORTS)
def test_address_sanitizer_reports(run: Run, fault: str) -> None:
    for order in ORDERS:
        result = run("address", "fault", fault, order=order)
        assert result.returncode not in (0, REPORTED_BY_RUNTIME), (order, result.stdout)
        assert re.search(ADDRESS_REPORTS[fault], result.stderr), (order, result.stderr)


@pytest.mark.parametrize("fault", RACES)
def test_thread_sanitizer_reports(run: Run, fault: str) -> None:
    for order in ORDERS:
        result = run("thread", "fault", fault, order=order)
        assert result.returncode not in (0, REPORTED_BY_RUNTIME), (order, result.stdout)
        assert re.search(rf"data race[\s\S]*{fault}\S* \S*faults.cu", result.stderr), (order, result.stderr)


def test_uninitialised_shared_memory_is_nan(run: Run) -> None:
    assert "returned with 1 NaN" in run("plain", "fault", "uninitialised_shared").stdout


def test_every_fault_has_its_net() -> None:
    listed = {*CORRECT, *RUNTIME_REPORTS, *ADDRESS_REPORTS, *RACES, "uninitialised_shared"}
    assert set(re.findall(r'\{"(\w+)",', KERNELS[1].read_text(encoding="utf-8"))) == listed


def test_kernels_run_after_reported_faults(run: Run, build: str) -> None:
    result = run(build, "recover", order="random:3")
    assert result.returncode == 0, result.stdout + result.stderr


def test_launches_from_two_threads_take_turns(run: Run, build: str) -> None:
    result = run(build, "threads")
    assert result.returncode == 0, result.stdout + result.stderr


def test_an_unknown_order_is_refused(run: Run) -> None:
    result = run("plain", "fault", "correct_rotation", order="sideways")
    assert result.returncode != 0
    assert "POSEREN_HOSTSIM_ORDER=sideways: expected forward, reverse, random or random:SEED" in (
        result.stdout + result.stderr
    )


def test_a_bare_shared_variable_does_not_compile(compiler: list[str], tmp_path: Path) -> None:
    source = tmp_path / "bare.cpp"
    source.write_text(
        '#include "cuda/launch.h"\n__global__ void kernel(float* x) { __shared__ float s[4]; s[0] = *x; }\n'
    )
    result = subprocess.run([*compiler, "-fsyntax-only", source], capture_output=True, text=True, check=False)
    assert result.returncode != 0
    assert "use SHARED(name, type)" in result.stderr


def test_switching_through_ucontext_works_too(compiler: list[str], tmp_path: Path) -> None:
    """What other processors than x86-64 use."""
    objects = _compile([*compiler, "-DHOSTSIM_UCONTEXT"], ["-O1"], [*RUNTIME, *KERNELS], tmp_path)
    subprocess.run([*compiler, *objects, "-o", tmp_path / "driver"], check=True)
    assert subprocess.run([tmp_path / "driver", "check"], check=False).returncode == 0


def _kernels(source: Path) -> set[str]:
    text = source.read_text(encoding="utf-8")
    return set(re.findall(r"__global__ void (?:__launch_bounds__\([^)]*\) )?(\w+)\(", text))
