# SPDX-License-Identifier: MIT
"""Argument checks that the ops share.

They examine types, shapes and devices, never a tensor's values: that would wait for a GPU and break graph capture.
Sizes and numbers that torch.compile or torch.export made symbolic stay symbolic.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Sequence

import torch
from torch import Tensor

from poseren_ext.geometry.camera import CameraLike, intrinsics

LARGEST = torch.finfo(torch.float32).max
"""Largest magnitude of a number: arithmetic is in float32."""

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""Types of features, poses and other coordinates."""


def check_tensor(value: object, name: str, shape: str, dtypes: Sequence[torch.dtype] = FLOATING) -> Tensor:
    """The value, checked to be a dense tensor of one of the types; ``shape`` describes the expected contents.

    Raises:
        TypeError: The value is not a tensor, is sparse, or has another dtype.
    """
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} is of type {type(value).__name__}; expected {_words(dtypes)} {shape} as a torch tensor "
            "(torch.as_tensor converts)"
        )
    if value.dtype not in dtypes:
        raise TypeError(
            f"{name} has dtype {value.dtype}; expected {_words(dtypes)} {shape}: convert it, a tensor with "
            f".to({dtypes[0]}), an array with .astype({str(dtypes[0]).removeprefix('torch.')!r})"
        )
    check_layout(value, name)
    return value


def check_layout(tensor: Tensor, name: str) -> None:
    """Refuses sparse tensors.

    Raises:
        TypeError: The tensor is not dense.
    """
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} has layout {tensor.layout}; expected a dense tensor: convert it with .to_dense()")


def add_batch(tensor: Tensor, name: str, shape: str, rank: int) -> tuple[Tensor, bool]:
    """The tensor with a batch axis, and whether it already had one. ``rank`` counts the batch axis.

    Raises:
        ValueError: The number of axes is neither ``rank`` nor ``rank - 1``.
    """
    if tensor.dim() not in (rank - 1, rank):
        raise ValueError(
            f"{name} has shape {tuple(tensor.shape)}; expected {shape}, or the same without the batch axis"
        )
    batched = tensor.dim() == rank
    return (tensor if batched else tensor[None]), batched


def match_batch(tensor: Tensor, name: str, tail: tuple[int, ...], batch: int, batched: bool) -> Tensor:
    """An argument beside the main one as [batch, *tail]; it has a batch axis exactly when the main argument has one.

    Raises:
        ValueError: The tensor has another shape.
    """
    expected = (batch, *tail) if batched else tail
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {list(expected)} for this batch")
    return tensor if batched else tensor[None]


def check_devices(main: Tensor, main_name: str, **others: object) -> None:
    """Checks that the tensors among the others are on the main one's device.

    Raises:
        ValueError: A tensor is on another device.
    """
    for name, other in others.items():
        if isinstance(other, Tensor) and other.device != main.device:
            raise ValueError(
                f"{main_name} is on {main.device} and {name} on {other.device}; move both to one device with .to()"
            )


def camera_rows(camera: CameraLike, batch: int, batched: bool, device: torch.device) -> Tensor:
    """A camera argument as float32 [batch, 4] = fx, fy, cx, cy in pixels.

    Raises:
        TypeError: The camera is of another type, or a tensor that is not floating-point.
        ValueError: The values are not those of a camera, or the number of cameras is not that of the samples.
    """
    rows = intrinsics(camera, device=device)
    if rows.dim() == 2 and not (batched and rows.shape[0] == batch):
        wanted = f"[4] or [{batch}, 4]" if batched else "[4]"
        raise ValueError(f"camera tensor has shape {tuple(rows.shape)}; expected {wanted} for this batch")
    return rows.expand(batch, 4)


def cube_rows(cube: float | Tensor, batch: int, batched: bool, device: torch.device) -> Tensor:
    """A cube argument as float32 [batch, 3]: half edges along x, y and z in mm.

    Raises:
        TypeError: The cube is neither a number nor a real tensor.
        ValueError: A number is not positive and finite, or a tensor's shape is not [], [B] or [B, 3].
    """
    if not isinstance(cube, Tensor):
        edge = positive(cube, "cube", "half edge in mm")
        return torch.full((3,), edge, dtype=torch.float32, device=device).expand(batch, 3)
    if cube.is_complex() or cube.dtype == torch.bool:
        raise TypeError(f"cube has dtype {cube.dtype}; expected half edges in mm as real numbers")
    check_layout(cube, "cube")
    shape = tuple(cube.shape)
    if shape not in (((), (batch,), (batch, 3)) if batched else ((), (3,))):
        wanted = f"a scalar, [{batch}] or [{batch}, 3]" if batched else "a scalar or [3]"
        raise ValueError(f"cube has shape {shape}; expected {wanted} half edges in mm for this batch")
    cube = cube.to(torch.float32)
    return (cube[:, None] if batched and cube.dim() == 1 else cube).expand(batch, 3)


def number(value: object, name: str, meaning: str, *, finite: bool = True) -> float:
    """The value as a float that float32 can hold; infinite only with ``finite=False``.

    Raises:
        TypeError: The value is not a number.
        ValueError: The value is NaN, infinite, or beyond the range of float32.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, torch.SymInt, torch.SymFloat, numbers.Real)):
        raise TypeError(f"{name} is of type {type(value).__name__}; expected a number: {meaning}")
    try:
        result: float = torch.sym_float(value)  # type: ignore[arg-type, no-untyped-call]  # also takes numpy's numbers
    except OverflowError:  # an integer beyond every float
        result = 2 * LARGEST
    if not -LARGEST <= result <= LARGEST:
        if result != result or (finite and abs(result) == math.inf):
            raise ValueError(f"{name} is {value}; expected a {'finite ' * finite}number: {meaning}")
        if abs(result) != math.inf:
            raise ValueError(f"{name} is {str(value)[:20]}; expected a number of at most {LARGEST:.2g}: {meaning}")
    return result


def positive(value: object, name: str, meaning: str) -> float:
    """The value as a float above 0.

    Raises:
        TypeError: The value is not a number.
        ValueError: The value is not positive and finite.
    """
    result = number(value, name, meaning)
    if result <= 0:
        raise ValueError(f"{name} is {value}; expected a positive number: {meaning}")
    return result


def whole(value: object, name: str, meaning: str, *, least: int = 1, most: int = 2**31 - 1) -> int:
    """The value as an int in least..most.

    Raises:
        TypeError: The value is not an integer.
        ValueError: The value is outside the range.
    """
    result: int
    if isinstance(value, (int, torch.SymInt)) and not isinstance(value, bool):
        result = value  # type: ignore[assignment]  # a SymInt stands for an int
    else:
        try:
            if isinstance(value, bool):
                raise TypeError
            result = operator.index(value)  # type: ignore[arg-type]  # raises TypeError where there is no index
        except TypeError:
            raise TypeError(f"{name} is of type {type(value).__name__}; expected an integer: {meaning}") from None
    if not least <= result <= most:
        raise ValueError(f"{name} is {result}; expected {least} to {most}: {meaning}")
    return result


def check_result_size(shape: Sequence[int], dtype: torch.dtype) -> None:
    """Refuses a result that no memory can address.

    Raises:
        ValueError: Its bytes are beyond 64 bits.
    """
    if not torch.compiler.is_compiling() and math.prod(shape) * dtype.itemsize >= 2**63:
        raise ValueError(f"the result would have shape {list(shape)}, more than 2^63 bytes; expected smaller sizes")


def choice(value: object, name: str, options: Sequence[str]) -> str:
    """The value, checked to be one of the options.

    Raises:
        ValueError: The value is not among them.
    """
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, options))}")
    return value


def _words(dtypes: Sequence[torch.dtype]) -> str:
    names = [str(dtype).removeprefix("torch.") for dtype in dtypes]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
