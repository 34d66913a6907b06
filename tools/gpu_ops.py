# SPDX-License-Identifier: MIT
"""Runs every op on the GPU and prints its median time, eager and as a CUDA graph, as one JSON object per line.

With --small each op runs once on small data, for compute-sanitizer.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable

import torch
from torch import Tensor

from poseren_ext import SKELETONS, HeadConfig, ops
from poseren_ext.models import RegionEnsemble
from poseren_ext.ops.cascade import PackedHead

Outputs = tuple[Tensor, ...]
CAMERA = (588.03, 587.07, 320.0, 240.0)
SKELETON = SKELETONS["nyu14"]


def packed_heads(widths: tuple[int, int]) -> dict[str, PackedHead]:
    """One head with random weights for each weight type."""
    head = RegionEnsemble(HeadConfig.pose_ren(SKELETON, widths=widths)).cuda().eval()
    return {
        "float32": ops.pack_head(head, "float32"),
        "bfloat16": ops.pack_head(head, "bfloat16"),
        "int8": ops.pack_head(head, "int8"),
    }


def work(batch: int, heads: dict[str, PackedHead], frame: tuple[int, int]) -> dict[str, Callable[[], Outputs]]:
    """Calls of the ops by name, on random data of one batch."""
    generator = torch.Generator("cuda").manual_seed(0)
    depth = torch.randint(400, 1200, (batch, *frame), generator=generator, device="cuda")
    stored, floating = depth.to(torch.uint16), depth.float().requires_grad_()
    center = torch.tensor([[frame[1] / 2, frame[0] / 2, 800.0]], device="cuda").repeat(batch, 1)
    pose = torch.rand(batch, SKELETON.num_joints, 3, generator=generator, device="cuda") * 2 - 1
    features = torch.rand(batch, 64, 12, 12, generator=generator, device="cuda")
    leaves = (features.clone().requires_grad_(), pose.clone().requires_grad_())
    guided = SKELETON.guided

    def refine(dtype: str) -> Callable[[], Outputs]:
        return lambda: ops.cascade_refine(features, pose, heads[dtype])

    return {
        "hand_center": lambda: ops.hand_center(stored, near=500, far=1100),
        "depth_crop": lambda: (ops.depth_crop(stored, center, CAMERA),),
        "depth_crop forward and backward": lambda: torch.autograd.grad(
            ops.depth_crop(floating, center, CAMERA).sum(), floating
        ),
        "roi_windows": lambda: (ops.roi_windows(pose, guided),),
        "pose_roi_pool": lambda: (ops.pose_roi_pool(features, pose, guided),),
        "pose_roi_pool align": lambda: (ops.pose_roi_pool(features, pose, guided, mode="align"),),
        "pose_roi_pool forward and backward": lambda: torch.autograd.grad(
            ops.pose_roi_pool(leaves[0], pose, guided).sum(), leaves[0]
        ),
        "pose_roi_pool align forward and backward": lambda: torch.autograd.grad(
            ops.pose_roi_pool(*leaves, guided, mode="align").sum(), leaves
        ),
        **{f"cascade_refine {dtype}": refine(dtype) for dtype in heads},
    }


def captured(call: Callable[[], Outputs]) -> Callable[[], None]:
    """Capture the call as a CUDA graph and return its replay.

    Raises:
        AssertionError: The replay gives other bits than the eager call.
    """
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        expected = call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = call()
    graph.replay()
    for result, wanted in zip(results, expected, strict=True):
        torch.testing.assert_close(result, wanted, rtol=0, atol=0, equal_nan=True)
    return graph.replay


def median_ms(call: Callable[[], object], repeats: int = 30) -> float:
    """Median time of a call in ms, measured with CUDA events."""
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
    """Time every op at batch 1, 8 and 128 with the published sizes, or run each once with small ones."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--small", action="store_true")
    small = parser.parse_args().small
    heads = packed_heads((64, 64) if small else (2048, 2048))
    for batch in (1, 9) if small else (1, 8, 128):
        for name, call in work(batch, heads, (60, 80) if small else (480, 640)).items():
            if small:
                call()
                torch.cuda.synchronize()
                continue
            row: dict[str, object] = {"name": name, "batch": batch, "ms": round(median_ms(call), 4)}
            row["graph_ms"] = round(median_ms(captured(call)), 4)
            if name.startswith("cascade"):  # how many stages are skipped depends on the weights
                row["mean_stages_run"] = call()[1].double().mean().item()
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
