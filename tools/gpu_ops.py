# SPDX-License-Identifier: MIT
"""Runs every op on the GPU and prints its median time, a JSON object a line; --small: once each, for sanitizers."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch

from poseren_ext import SKELETONS, HeadConfig, ops
from poseren_ext.models import RegionEnsemble

CAMERA = (588.03, 587.07, 320.0, 240.0)


def work(batch: int, widths: tuple[int, int]) -> dict[str, Callable[[], object]]:
    """The ops by name, each on random data of one batch."""
    generator = torch.Generator("cuda").manual_seed(0)
    depth = torch.randint(400, 1200, (batch, 480, 640), generator=generator, device="cuda").to(torch.uint16)
    center = torch.tensor([[320.0, 240.0, 800.0]], device="cuda").repeat(batch, 1)
    skeleton = SKELETONS["nyu14"]
    pose = torch.rand(batch, skeleton.num_joints, 3, generator=generator, device="cuda") * 2 - 1
    features = torch.rand(batch, 64, 12, 12, generator=generator, device="cuda")
    head = RegionEnsemble(HeadConfig.pose_ren(skeleton, widths=widths)).cuda().eval()
    grown = features.clone().requires_grad_()
    packed = ops.pack_head(head, "bfloat16")

    def pool_backward() -> torch.Tensor:
        return torch.autograd.grad(ops.pose_roi_pool(grown, pose, skeleton.guided).sum(), grown)[0]

    return {
        "hand_center": lambda: ops.hand_center(depth, near=500, far=1100),
        "depth_crop": lambda: ops.depth_crop(depth, center, CAMERA),
        "roi_windows": lambda: ops.roi_windows(pose, skeleton.guided),
        "pose_roi_pool": lambda: ops.pose_roi_pool(features, pose, skeleton.guided),
        "pose_roi_pool align": lambda: ops.pose_roi_pool(features, pose, skeleton.guided, mode="align"),
        "pose_roi_pool forward and backward": pool_backward,
        "cascade_refine float32": lambda: ops.cascade_refine(features, pose, head),
        "cascade_refine bfloat16": lambda: ops.cascade_refine(features, pose, packed),
    }


def median_ms(call: Callable[[], object], repeats: int = 30) -> float:
    """Median milliseconds of a call, by CUDA events."""
    for _ in range(3):
        call()
    times = []
    for _ in range(repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return sorted(times)[repeats // 2]


def main() -> None:
    """Every op at batch 1 and 128 of the published size, or once at small ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    small = parser.parse_args().small
    for batch in (1, 9) if small else (1, 128):
        for name, call in work(batch, (64, 64) if small else (2048, 2048)).items():
            if small:
                call()
                torch.cuda.synchronize()
            else:
                print(json.dumps({"name": name, "batch": batch, "ms": round(median_ms(call), 4)}), flush=True)


if __name__ == "__main__":
    main()
