# SPDX-License-Identifier: MIT
"""Benchmark of hand_center."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.baselines import image
from benchmarks.baselines.compiled import call_or_reason, compiled
from benchmarks.equality import assert_equal
from benchmarks.material import FAR, NEAR, Material
from benchmarks.probes import reading
from benchmarks.rows import Call, CannotRun, Comparison, Milliseconds, Target
from poseren_ext import ops
from poseren_ext._utils.cuda_graph import replayed
from poseren_ext.reference import hand_center


def comparisons(material: Material) -> Iterator[Comparison]:
    """One comparison: all frames of a batch in one call."""
    settings = material.settings
    sets = material.repeated(material.frames, settings.op_batches[0])
    batch, pixels = sets[0].shape[0], sets[0][0].numel()
    baselines: dict[str, Call | CannotRun] = {
        "PyTorch": lambda i: image.center_torch(sets[i % len(sets)], NEAR, FAR),
        "torch.compile": call_or_reason(
            compiled(image.center_torch, (sets[0], NEAR, FAR), settings, freeze=False, tune=False),
            [(frames, NEAR, FAR) for frames in sets],
        ),
    }
    if settings.device == "cpu":
        arrays, pool = [frames.numpy() for frames in sets], ThreadPoolExecutor(settings.threads)
        baselines["NumPy"] = lambda i: [image.center_numpy(frame, NEAR, FAR) for frame in arrays[i % len(arrays)]]
        baselines["OpenCV"] = lambda i: [image.center_opencv(frame, NEAR, FAR) for frame in arrays[i % len(arrays)]]
        baselines["OpenCV, one thread per frame"] = lambda i: list(
            pool.map(lambda frame: image.center_opencv(frame, NEAR, FAR), arrays[i % len(arrays)])
        )

    def ours(i: int) -> object:
        return ops.hand_center(sets[i % len(sets)], near=NEAR, far=FAR)[0]

    def check() -> None:
        wanted = hand_center(sets[0][:8], near=NEAR, far=FAR)[0].cpu()
        for name, call in {"ours": ours, **baselines}.items():
            if not isinstance(call, CannotRun):
                got: Any = call(0)
                got = np.stack(got) if isinstance(got, list) else got.cpu()
                assert_equal(name, got[:8], wanted, most=1e-3)

    def lower_bound(costs: Milliseconds) -> Milliseconds:
        return {"uint16": costs["read"] * batch * pixels * 2}

    yield Comparison(
        name="hand_center",
        device=settings.device,
        batch=batch,
        ours={"uint16": replayed(ours, len(sets), settings.device)},
        baselines=baselines,
        check=check,
        params={"height": sets[0].shape[1], "width": sets[0].shape[2]},
        targets={
            "uint16": [Target(10, ("NumPy", "PyTorch")) if settings.device == "cpu" else Target(5, tuple(baselines))]
        },
        probes={"read": reading(material)},
        lower_bound=lower_bound,
    )
