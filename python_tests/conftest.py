# SPDX-License-Identifier: MIT
"""Devices of the tests: the CPU, the CUDA kernels executed by hostsim, and a GPU if there is one.

An extension that cannot be loaded fails the whole run. Tests that cannot run are skipped with a reason; pytest's -ra
lists them at the end.
"""

from __future__ import annotations

import os
import signal
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import hostsim_device
from helpers.command_line import Result, exit_status
from helpers.op_contract import Implementation

from poseren_ext import ops, reference
from poseren_ext.geometry.camera import Camera
from poseren_ext.inference.learnt_detection import LearntHand
from poseren_ext.inference.surface_detection import surface_hands
from poseren_ext.ops import _native

if "PYTEST_XDIST_WORKER" in os.environ:  # the workers share the cores, and so do the processes that tests start
    os.environ["OMP_NUM_THREADS"] = "1"
    torch.set_num_threads(1)
else:  # what libraries leave in the folder of temporary files, 600 MB of it torch's, goes with the run
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", tempfile.gettempdir())
    _left_behind = tempfile.TemporaryDirectory(prefix="poseren-test-")
    os.environ["TMPDIR"] = tempfile.tempdir = _left_behind.name
torch.set_num_threads(min(2, torch.get_num_threads()))
# A shell's background jobs ignore Ctrl-C and so would the processes that tests start and interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def poseren(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    """Run a command in this process."""

    def call(*arguments: object) -> Result:
        capsys.readouterr()
        return Result(exit_status(*arguments), *capsys.readouterr())

    return call


@dataclass(frozen=True)
class Device:
    """The torch device of the tensors, and the namespace of the ops that run on them."""

    name: str
    namespace: str
    torch: str


DEVICES = (
    Device("cpu", "poseren", "cpu"),
    Device("hostsim", hostsim_device.NAMESPACE, "cpu"),
    Device("cuda", "poseren", "cuda"),
)


@pytest.fixture
def surface_detection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hands are found by their surface alone: for tests whose frames show discs and boxes instead of hands."""

    def nearest(frame: Any, camera: Camera, max_hands: int, depth_unit: float, *_: Any) -> list[LearntHand]:
        found = surface_hands(frame, camera, max_hands, depth_unit)
        return [LearntHand(hand.center, hand.center, None, 0.9 - 0.1 * i) for i, hand in enumerate(found)]

    monkeypatch.setattr("poseren_ext.inference.hand_detection.learnt_hands", nearest)


@pytest.fixture(params=DEVICES, ids=lambda device: device.name)
def device(request: pytest.FixtureRequest) -> Iterator[str]:
    """The torch device of the test's tensors, with the Python functions switched to the kernels under test."""
    yield from _on(request.param)


@pytest.fixture(params=[*DEVICES, None], ids=lambda device: device.name if device else "reference")
def implementation(request: pytest.FixtureRequest) -> Iterator[Implementation]:
    """The ops on every device, and the reference."""
    if request.param is None:
        yield reference, "cpu"
    else:
        for torch_device in _on(request.param):
            yield ops, torch_device


def _on(where: Device) -> Iterator[str]:
    missing = {"cpu": _none, "hostsim": hostsim_device.missing, "cuda": _cuda_missing}[where.name]()
    if missing:
        if where.name == "cuda" and os.environ.get("FAIL_WITHOUT_CUDA") == "1":
            pytest.fail(f"FAIL_WITHOUT_CUDA=1, but {missing}")
        pytest.skip(missing)
    with _native.use_namespace(where.namespace):
        yield where.torch


_LONGEST = (
    "test_docs.py",
    "test_export_onnx.py",
    "test_export_package.py",
    "test_learning_paper.py",
    "test_learning_released.py",
    "test_ray.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start with the files that take longest, then those with most tests, so that no worker is busy alone at the end.

    With `--dist loadfile --no-loadscope-reorder` the workers take the files in this order.
    """
    tests = Counter(item.path for item in items)
    items.sort(key=lambda item: (item.path.name not in _LONGEST, -tests[item.path]))


_launches: Counter[str] = Counter()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Count the kernels that hostsim executed here; a worker of pytest-xdist hands its counts to the main process."""
    _launches.update(hostsim_device.launches_if_loaded())
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["launches"] = dict(_launches)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Add the counts of a worker that has ended."""
    _launches.update(getattr(node, "workeroutput", {}).get("launches", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    terminalreporter.write_line(hostsim_device.summary(_launches))


@pytest.fixture(scope="session")
def test_data() -> Path:
    """The folder of published label, prediction and depth files that POSEREN_TEST_DATA names."""
    folder = os.environ.get("POSEREN_TEST_DATA")
    if not folder:
        pytest.skip("POSEREN_TEST_DATA is not set: no published data to test with")
    path = Path(folder)
    assert path.is_dir(), f"POSEREN_TEST_DATA names {folder}, which is no folder"
    return path


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _none() -> str:
    return ""


@cache
def _cuda_missing() -> str:
    if not torch.cuda.is_available():
        return "torch sees no CUDA device"
    if not _native.build_info()["cuda_architectures"]:
        return "the extension was built without CUDA"
    return ""
