# SPDX-License-Identifier: MIT
"""Label a large folder of depth frames on all cores of a machine, or on all machines of a Ray cluster.

    python examples/label_with_ray.py recording/ labels.txt --camera sr305 --depth-unit 0.125 --workers 8

On a cluster, start it where RAY_ADDRESS names the head node; every node must see the frames by the same paths. A worker
that dies is replaced, and --resume continues a run that was stopped: every frame has one line, in order.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from poseren_ext import Camera
from poseren_ext.inference.ray_batch import label_frames


def main() -> None:
    """Label from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", type=Path, help="depth files, or a folder of them")
    parser.add_argument("out", type=Path, help="one line per frame, u v d of each joint")
    parser.add_argument("--camera", type=Camera.parse, required=True, help="fx,fy,cx,cy or a dataset's name")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--depth-unit", type=float, default=1.0, help="mm per stored unit")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--resume", action="store_true", help="continue a run that was stopped")
    parser.add_argument("--gpus-per-worker", type=float, default=0.0)
    arguments = parser.parse_args()
    report = label_frames(
        [arguments.frames],
        arguments.out,
        camera=arguments.camera,
        model=arguments.model,
        workers=arguments.workers,
        gpus_per_worker=arguments.gpus_per_worker,
        depth_unit=arguments.depth_unit,
        resume=arguments.resume,
    )
    print(f"{report.frames - len(report.missing)} of {report.frames} frames labelled in {arguments.out}")


if __name__ == "__main__":
    main()
