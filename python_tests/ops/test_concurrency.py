# SPDX-License-Identifier: MIT
"""Ops and a shared estimator in many threads and processes: the serial results, no deadlock, no memory leak."""

from __future__ import annotations

import gc
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.dataset_trees import icvl_tree
from helpers.depth_cases import CAMERA, rough_frames
from helpers.free_threaded import works
from helpers.trust_record import record, resident_mib
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from poseren_ext import Estimator, ops
from poseren_ext.datasets.icvl import ICVL
from poseren_ext.datasets.packs.dataset import PackedDataset
from poseren_ext.datasets.packs.writer import write_pack
from poseren_ext.datasets.sample import collate

THREADS = 6
LEAK_CALLS = int(os.environ.get("POSEREN_LEAK_CALLS", "5000"))
"""Calls of the leak test; `make soak` sets 100000."""


def hand_frame(x: float, y: float = 60, mm: int = 500) -> np.ndarray:
    """160x120 pixels, a disc of a hand's size at mm."""
    rows, columns = np.mgrid[:120, :160]
    return np.where((rows - y) ** 2 + (columns - x) ** 2 < (43 * 120 / mm) ** 2, mm, 0).astype(np.uint16)


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return Estimator("demo", camera=(120, 120, 80, 60))


@pytest.fixture
def _threads_restored() -> None:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.timeout(120)
@pytest.mark.usefixtures("_threads_restored")
@pytest.mark.parametrize("intra", [1, 2, 4])
def test_ops_from_many_threads_give_the_serial_bits(intra: int) -> None:
    torch.set_num_threads(1)
    jobs = list(works().values())
    expected = [job() for job in jobs]
    torch.set_num_threads(intra)
    start, rounds = threading.Barrier(THREADS), 12

    def loop(first: int) -> int:
        start.wait()
        done = 0
        for turn in range(rounds):
            if turn == rounds // 2 and first == 0:
                torch.set_num_threads(3 - intra // 2)  # while the others are at work
            for step in range(len(jobs)):
                index = (first + step) % len(jobs)
                for one, other in zip(jobs[index](), expected[index], strict=True):
                    assert torch.equal(one, other) or bool((one.isnan() == other.isnan()).all())
                done += 1
        return done

    with ThreadPoolExecutor(THREADS) as pool:
        calls = sum(pool.map(loop, range(THREADS)))
    record("concurrency", f"{THREADS} threads, {intra} intra-op threads", calls=calls, wrong=0)


@pytest.mark.timeout(120)
def test_ops_from_threads_without_the_interpreters_lock() -> None:
    """The script for a free-threaded Python, run by this one."""
    here = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-m", "helpers.free_threaded", "4"], cwd=here, capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0, done.stderr
    calls = int(re.search(r"(\d+) calls, each with the serial bits", done.stdout)[1])
    assert calls == 8 * 4 * 7
    record("concurrency", f"8 threads, {done.stdout.split(':')[0]}", calls=calls, wrong=0)


@pytest.mark.timeout(120)
def test_one_estimator_from_many_threads_gives_the_serial_bits(estimator: Estimator) -> None:
    frames = [hand_frame(60 + 3 * i) for i in range(12)]
    expected = [estimator(frame).joints for frame in frames]

    def estimate(i: int) -> bool:
        return bool(np.array_equal(estimator(frames[i % 12]).joints, expected[i % 12]))

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)  # threads take turns a thousand times as often
    try:
        with ThreadPoolExecutor(THREADS) as pool:
            right = list(pool.map(estimate, range(72)))
    finally:
        sys.setswitchinterval(interval)
    assert all(right)
    record("concurrency", f"{THREADS} threads, one shared estimator", calls=len(right), wrong=0)


class Crops(Dataset[Tensor]):
    """Work of DataLoader workers: native ops, and the pose of a frame by an estimator made in the parent."""

    def __init__(self, estimator: Estimator) -> None:
        self.estimator = estimator

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> Tensor:
        pose = self.estimator(torch.from_numpy(hand_frame(60 + 4 * index)))
        return torch.as_tensor(pose.uvd)


@pytest.mark.timeout(180)
@pytest.mark.usefixtures("_threads_restored")
@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_workers_give_the_serial_bits(start: str, estimator: Estimator, monkeypatch: pytest.MonkeyPatch) -> None:
    # By descriptors, torch refuses to spawn with tensors that share one storage, as an estimator's weights do.
    monkeypatch.setattr(torch.multiprocessing, "_sharing_strategy", "file_system")
    dataset = Crops(estimator)
    torch.set_num_threads(1)  # as in a worker: torch's convolutions sum in another order for other numbers of threads
    expected = [dataset[i] for i in range(len(dataset))]
    torch.set_num_threads(2)  # the parent's pool of threads is at work before it forks, as fork dreads
    ops.depth_crop(rough_frames(0, (8, 200, 300), torch.float32), torch.full((8, 3), 800.0), CAMERA)
    for epoch in range(2 if start == "fork" else 1):
        loader = DataLoader(dataset, batch_size=2, num_workers=2, multiprocessing_context=start, timeout=60)
        assert torch.equal(torch.cat(list(loader)), torch.stack(expected)), epoch
    record("concurrency", f"2 DataLoader workers by {start}", calls=len(dataset), wrong=0)


@pytest.mark.timeout(180)
def test_a_pack_in_workers(tmp_path: Path) -> None:
    icvl_tree(tmp_path / "icvl")
    write_pack(ICVL(tmp_path / "icvl", "test"), tmp_path / "icvl.pack")
    pack = PackedDataset(tmp_path / "icvl.pack")
    loader = DataLoader(pack, 2, num_workers=2, multiprocessing_context="fork", timeout=60, collate_fn=collate)
    for batch, first in zip(loader, range(0, len(pack), 2), strict=True):
        for row in range(len(batch.depth)):
            assert torch.equal(batch.depth[row], pack[first + row].depth)


@pytest.mark.timeout(1800)
@pytest.mark.usefixtures("_threads_restored")
def test_memory_stays_flat(estimator: Estimator) -> None:
    """Refusals, successes and gradients in turn; most calls are the small ops', which leak the fastest."""
    torch.set_num_threads(1)
    jobs = [*works().values(), refused, refused]
    frame = hand_frame(70)

    def burst(calls: int) -> None:
        for call in range(calls):
            jobs[call % len(jobs)]()
            if call % 200 == 0:
                estimator(frame)

    burst(LEAK_CALLS // 5)
    gc.collect()
    before = resident_mib()
    burst(LEAK_CALLS)
    gc.collect()
    after = resident_mib()
    record("memory", "ops and estimator", calls=LEAK_CALLS, before_mib=round(before, 1), after_mib=round(after, 1))
    assert after - before < 8  # 1.7 kB a call of 5000; 84 bytes a call of 100,000


def refused() -> list[Tensor]:
    """A call that ends in an exception."""
    with pytest.raises(ValueError, match="center has shape"):
        ops.depth_crop(torch.zeros(4, 4), torch.zeros(2), CAMERA)
    return []
