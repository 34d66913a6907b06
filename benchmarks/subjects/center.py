# SPDX-License-Identifier: MIT
"""hand_center: the mean of a hand's pixels."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from benchmarks.equality import assert_equal
from benchmarks.material import FAR, NEAR, Material
from benchmarks.peers import image
from benchmarks.peers.compiled import call_or_reason, compiled
from benchmarks.probes import reading
from benchmarks.rows import Call, CannotRun, Contest, Milliseconds, Target
from poseren_ext import ops
from poseren_ext._utils.cuda_graph import replayed
from poseren_ext.reference import hand_center


def contests(material: Material) -> Iterator[Contest]:
    """All frames of a batch at once."""
    settings = material.settings
    sets = material.repeated(material.frames, settings.op_batches[0])
    batch, pixels = sets[0].shape[0], sets[0][0].numel()
    peers: dict[str, Call | CannotRun] = {
        "PyTorch": lambda i: image.center_torch(sets[i % len(sets)], NEAR, FAR),
        "torch.compile": call_or_reason(
            compiled(image.center_torch, (sets[0], NEAR, FAR), settings, freeze=False, tune=False),
            [(frames, NEAR, FAR) for frames in sets],
        ),
    }
    if settings.device == "cpu":
        arrays, pool = [frames.numpy() for frames in sets], ThreadPoolExecutor(settings.threads)
        peers["NumPy"] = lambda i: [image.center_numpy(frame, NEAR, FAR) for frame in arrays[i % len(arrays)]]
        peers["OpenCV"] = lambda i: [image.center_opencv(frame, NEAR, FAR) for frame in arrays[i % len(arrays)]]
        peers["OpenCV, a thread a frame"] = lambda i: list(
            pool.map(lambda frame: image.center_opencv(frame, NEAR, FAR), arrays[i % len(arrays)])
        )

    def ours(i: int) -> object:
        return ops.hand_center(sets[i % len(sets)], near=NEAR, far=FAR)[0]

    def check() -> None:
        wanted = hand_center(sets[0][:8], near=NEAR, far=FAR)[0].cpu()
        for name, call in {"ours": ours, **peers}.items():
            if not isinstance(call, CannotRun):
                got: Any = call(0)
                got = np.stack(got) if isinstance(got, list) else got.cpu()
                assert_equal(name, got[:8], wanted, most=1e-3)

    def floor(costs: Milliseconds) -> Milliseconds:
        return {"uint16": costs["read"] * batch * pixels * 2}

    yield Contest(
        name="hand_center",
        device=settings.device,
        batch=batch,
        ours={"uint16": replayed(ours, len(sets), settings.device)},
        peers=peers,
        check=check,
        params={"height": sets[0].shape[1], "width": sets[0].shape[2]},
        targets={"uint16": [Target(10, ("NumPy", "PyTorch")) if settings.device == "cpu" else Target(5, tuple(peers))]},
        probes={"read": reading(material)},
        floor=floor,
    )
