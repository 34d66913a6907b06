# SPDX-License-Identifier: MIT
"""`python -m fuzz.native N`: the native ops with arguments that the Python functions would have refused.

They may refuse by a RuntimeError of theirs or give something back; they may not end the process.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random
from typing import Any

import torch
from torch import Tensor

from fuzz.op_cases import OTHERS
from poseren_ext.ops import _native

Case = tuple[Callable[..., Any], list[Any]]


def cases() -> list[Case]:
    """Every native op with arguments that are right."""
    ops, depth = _native.ops, torch.full((2, 12, 16), 500.0)
    center, camera, cube = torch.full((2, 3), 500.0), torch.full((2, 4), 100.0), torch.full((2, 3), 50.0)
    turn, pose, features = torch.eye(2, 3).repeat(2, 1, 1), torch.zeros(2, 14, 3), torch.rand(2, 4, 12, 12)
    crop: list[Any] = [1, 700.0, False, 1.0]
    geometry: list[Any] = [7, 96, 48, 0.125]
    regions, joints = torch.rand(2, 3, 4, 7, 7), [0, 3, 13]
    head: list[Any] = [torch.rand(3, 6, 196), None, torch.rand(3, 6), torch.rand(1, 5, 18), None, torch.rand(1, 5)]
    head += [torch.rand(42, 5), None, torch.rand(42)]
    return [
        (ops.hand_center, [depth, depth > 0, camera, cube, 1.0, 900.0, 1.0, 1]),
        (ops.depth_crop, [depth, center, camera, cube, turn, 16, *crop, torch.float32]),
        (ops.depth_crop_backward, [torch.rand(2, 1, 16, 16), depth, center, camera, cube, turn, *crop]),
        (ops.roi_windows, [pose, joints, 96, 48, 0.125]),
        (ops.pose_roi_pool, [features, pose, joints, *geometry, True, 2]),
        (ops.pose_roi_pool_feature_grad, [regions, features, pose, joints, *geometry, True, 2]),
        (ops.pose_roi_pool_pose_grad, [regions, features, pose, joints, *geometry, 2]),
        (ops.cascade_refine, [features, pose, joints, [0, 1, 2], *head, *geometry, False, 2, 3]),
    ]


def spoil(random: Random, value: Any) -> Any:
    """Another value of the same kind, or of none."""
    if isinstance(value, Tensor):
        wrong: list[Callable[[], Any]] = [
            lambda: value.to(random.choice((*OTHERS, torch.float16, torch.bfloat16, torch.uint16, torch.int32))),
            lambda: value[..., :1],
            lambda: value[:0],
            lambda: value[..., None],
            lambda: value[0],
            lambda: value.transpose(0, -1),
            lambda: torch.full_like(value, random.choice([float("nan"), float("inf"), -1e30, 1e30])),
            lambda: value.new_zeros([0] * value.dim()),
            lambda: value.to("meta"),
            lambda: value[:1].expand(7, *value.shape[1:]),
        ]
        return random.choice(wrong)()
    if isinstance(value, bool) or value is None:
        return random.choice([True, False, None])
    if isinstance(value, list):
        extremes = [-1, 0, 13, 14, 2**31, -(2**63), 2**63 - 1]
        return random.choice([[], [0] * 129, [0] * 10_000, random.choices(extremes, k=3), [0], value * 2])
    if isinstance(value, int):
        return random.choice([0, -1, 1, 2, 127, 4097, 2**31 - 1, 2**31, -(2**31), 2**40, 2**63 - 1, -(2**63)])
    if isinstance(value, float):
        return random.choice([0.0, -1.0, float("nan"), float("inf"), 1e-300, 1e300, 1e30])
    return random.choice([torch.int64, torch.bool, torch.float64, torch.complex64])


def main(count: int) -> None:
    """Each op with its own arguments, then `count` times with one or two of them spoiled."""
    random, tried, accepted = Random(1), 0, 0
    for function, arguments in cases():
        function(*arguments)
        for _ in range(count):
            spoiled = list(arguments)
            for _ in range(random.choice([1, 1, 2])):
                place = random.randrange(len(spoiled))
                spoiled[place] = spoil(random, spoiled[place])
            if _asks_for_much(function, spoiled):
                continue
            tried += 1
            print(function, [_shown(value) for value in spoiled], file=sys.stderr, flush=True)
            try:
                function(*spoiled)
                accepted += 1
            except (RuntimeError, TypeError, ValueError, NotImplementedError, OverflowError, MemoryError) as error:
                if not str(error):
                    raise AssertionError("a refusal without a message") from error
    print(tried, accepted)


def _asks_for_much(function: Any, arguments: list[Any]) -> bool:
    """A size that is allowed and takes minutes or all memory is no fault of the op."""
    large = [value for value in arguments if isinstance(value, int) and 4096 < value < 2**63]
    return bool(large)


def _shown(value: Any) -> Any:
    return (value.dtype, tuple(value.shape)) if isinstance(value, Tensor) else str(value)[:60]


if __name__ == "__main__":
    main(int(sys.argv[1]))
