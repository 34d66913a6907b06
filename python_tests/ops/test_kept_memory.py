# SPDX-License-Identifier: MIT
"""Memory of large results is used again for the next ones, never while a result is alive, and not without limit."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from poseren_ext import ops, reference

JOINTS = (0, 1, 2, 3, 4, 5)
MIB = 2**20


@pytest.fixture(autouse=True)
def _nothing_kept() -> Iterator[None]:
    ops.release_memory()
    yield
    ops.release_memory()


def maps(seed: int, batch: int = 32) -> tuple[Tensor, Tensor]:
    """Features [B, 64, 12, 12] and a pose [B, 14, 3]; of 32 samples the regions take 2.3 MiB, the features 1.1."""
    generator = torch.Generator().manual_seed(seed)
    pose = torch.rand(batch, 14, 3, generator=generator) * 2 - 1
    return torch.randn(batch, 64, 12, 12, generator=generator), pose


def regions(seed: int, batch: int = 32) -> Tensor:
    return ops.pose_roi_pool(*maps(seed, batch), JOINTS)


def in_a_process_of_its_own(code: str, kept: str) -> subprocess.CompletedProcess[str]:
    preamble = "import torch\nfrom poseren_ext import ops\nf, p = torch.randn(32, 64, 12, 12), torch.zeros(32, 14, 3)\n"
    return subprocess.run(
        [sys.executable, "-c", preamble + code],
        env={**os.environ, "POSEREN_KEPT_MIB": kept},
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_next_result_lies_where_the_last_one_did() -> None:
    first = regions(0)
    place = first.data_ptr()
    del first
    assert regions(1).data_ptr() == place


def test_results_that_are_alive_keep_their_places() -> None:
    alive = [regions(seed) for seed in range(5)]
    assert len({result.data_ptr() for result in alive}) == 5
    assert ops.release_memory() == 0
    for seed, result in enumerate(alive):
        assert torch.equal(result, reference.pose_roi_pool(*maps(seed), JOINTS))


def test_what_shares_a_result_keeps_it_alive() -> None:
    view = regions(0)[3:5]
    array = regions(1).numpy()
    expected = view.clone(), array.copy()
    for seed in range(2, 6):
        regions(seed)
    assert torch.equal(view, expected[0])
    assert (array == expected[1]).all()


def test_gradients_crops_and_their_gradients_are_kept() -> None:
    features, pose = maps(0)
    features.requires_grad_()
    depth = torch.full((32, 240, 320), 500.0, requires_grad=True)
    center = torch.tensor([[0.0, 0.0, 500.0]]).expand(32, 3)

    def results() -> list[Tensor]:
        pooled = ops.pose_roi_pool(features, pose, JOINTS)
        crop = ops.depth_crop(depth, center, (300.0, 300.0, 160.0, 120.0), dtype=torch.float32)
        return [
            pooled,
            crop,
            *torch.autograd.grad(pooled.sum(), features),
            *torch.autograd.grad(crop.sum(), depth),
        ]

    places = [result.data_ptr() for result in results()]
    assert [result.data_ptr() for result in results()] == places


def test_release_gives_all_of_it_back_and_says_how_much() -> None:
    kept = regions(0).nbytes + regions(0, batch=48).nbytes
    assert ops.release_memory() == kept
    assert ops.release_memory() == 0


def test_small_results_are_not_kept() -> None:
    assert regions(0, batch=8).nbytes < MIB
    assert ops.release_memory() == 0


def test_no_more_than_the_limit_is_kept_the_oldest_goes_first() -> None:
    done = in_a_process_of_its_own(
        "for batch in (32, 40, 48): ops.pose_roi_pool(f[:1].expand(batch, -1, -1, -1), p[:1].expand(batch, -1, -1), "
        "[0, 1, 2, 3, 4, 5])\nprint(ops.release_memory())",
        kept="7",
    )
    row = 6 * 64 * 49 * 4
    assert done.stdout == f"{(40 + 48) * row}\n", done.stderr


@pytest.mark.parametrize("kept", ["0", "2"])
def test_a_result_beyond_the_limit_is_torchs_own(kept: str) -> None:
    done = in_a_process_of_its_own(
        "pooled = ops.pose_roi_pool(f, p, [0, 1, 2, 3, 4, 5])\n"
        "print(pooled.untyped_storage().resizable())\ndel pooled\nprint(ops.release_memory())",
        kept=kept,
    )
    assert done.stdout == "True\n0\n", done.stderr


@pytest.mark.parametrize("kept", ["much", "-1", "64MiB", "99999999999999999999"])
def test_a_limit_that_is_no_number_is_refused(kept: str) -> None:
    done = in_a_process_of_its_own("ops.pose_roi_pool(f, p, [0, 1, 2, 3, 4, 5])", kept=kept)
    assert f"POSEREN_KEPT_MIB is '{kept}'; expected a whole number of MiB" in done.stderr


def test_threads_that_make_and_drop_results_share_no_place() -> None:
    def work(seed: int) -> bool:
        return all(torch.equal(regions(seed), expected[seed]) for _ in range(20))

    expected = [reference.pose_roi_pool(*maps(seed), JOINTS) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(8)))


def test_a_result_dropped_in_another_thread_is_kept_all_the_same() -> None:
    holder = [regions(0)]
    kept = holder[0].nbytes
    with ThreadPoolExecutor(1) as pool:
        pool.submit(holder.clear).result()
    assert ops.release_memory() == kept


def test_under_inference_mode_results_are_inference_tensors_as_torchs_own() -> None:
    with torch.inference_mode():
        assert regions(0).is_inference()
    assert not regions(0).is_inference()
