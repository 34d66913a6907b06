# SPDX-License-Identifier: MIT
"""`python free_threaded.py ROUNDS`: the ops from eight threads at once, compared with the serial bits.

Needs torch and the built package alone, for free-threaded Python (3.13t and later) has not all of the package's
dependencies: safetensors and OpenCV have no wheels for it. There the lock must stay off when the ops are imported.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from importlib.util import find_spec
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

THREADS = 8

Work = Callable[[], "list[Tensor]"]


def works() -> dict[str, Work]:
    """Each op on data of its own, all deterministic."""
    import torch

    from helpers.depth_cases import CAMERA, rough_frames
    from helpers.heads import narrow_config, random_head, scene
    from poseren_ext import ops

    depth = rough_frames(0, (3, 20, 30), torch.int32).to(torch.uint16)
    center = torch.tensor([[15.0, 10.0, 800.0]]).repeat(3, 1)
    head = random_head(narrow_config(), step=0.02)
    features, pose = scene(5, head.config)
    single, alone = features[:1], pose[:1]
    float_depth = depth.float().requires_grad_()

    def gradients() -> list[Tensor]:
        crop = ops.depth_crop(float_depth, center, CAMERA, size=16)
        maps = features.clone().requires_grad_()
        regions = ops.pose_roi_pool(maps, pose, head.config.joints)
        return [*torch.autograd.grad(crop.sum(), float_depth), *torch.autograd.grad(regions.square().sum(), maps)]

    return {
        "hand_center": lambda: list(ops.hand_center(depth, near=300, far=900, iterations=2, camera=CAMERA)),
        "depth_crop": lambda: [ops.depth_crop(depth, center, CAMERA, size=24)],
        "pose_roi_pool": lambda: [ops.pose_roi_pool(features, pose, head.config.joints)],
        "roi_windows": lambda: [ops.roi_windows(pose, head.config.joints)],
        "cascade_refine, batch 5": lambda: list(ops.cascade_refine(features, pose, head)),
        "cascade_refine, batch 1": lambda: list(ops.cascade_refine(single, alone, head)),
        "gradients": gradients,
    }


def lock_is_on() -> bool:
    """Whether the interpreter's lock keeps threads apart."""
    ask: Callable[[], bool] = getattr(sys, "_is_gil_enabled", lambda: True)
    return ask()


def main(rounds: int) -> None:
    """All threads do all works, each beginning with another one."""
    for names in (("safetensors", "safetensors.torch"), ("cv2",)):
        if not find_spec(names[0]):
            sys.modules.update({name: _Missing(name) for name in names})
    locked = lock_is_on()
    import torch

    torch.set_num_threads(1)
    jobs = list(works().values())
    expected = [job() for job in jobs]
    assert lock_is_on() == locked, "importing the ops has put the interpreter's lock on"
    start = threading.Barrier(THREADS)

    def loop(first: int) -> int:
        start.wait()
        for step in range(rounds * len(jobs)):
            index = (first + step) % len(jobs)
            for one, other in zip(jobs[index](), expected[index], strict=True):
                assert torch.equal(one.nan_to_num(7), other.nan_to_num(7))
        return rounds * len(jobs)

    with ThreadPoolExecutor(THREADS) as pool:
        calls = sum(pool.map(loop, range(THREADS)))
    name = f"Python {sys.version_info.major}.{sys.version_info.minor}{'' if locked else ', free-threaded'}"
    print(f"{name}: {calls} calls, each with the serial bits")


class _Missing(ModuleType):
    """Stands for a package that is not there; its names are exceptions that nobody raises."""

    def __getattr__(self, name: str) -> type[Exception]:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (Exception,), {})


if __name__ == "__main__":
    main(int(sys.argv[1]))
