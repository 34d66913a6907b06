# SPDX-License-Identifier: MIT
"""Argument checks that the ops share.

They look at types, shapes and devices, never at a tensor's values: that would wait for a GPU and break graph capture.
"""

from __future__ import annotations

import functools
import math
import numbers
import operator
from collections.abc import Callable, Sequence
from typing import ParamSpec, TypeVar, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from poseren_ext.geometry.camera import Camera, CameraLike, intrinsics

_Values = ParamSpec("_Values")
_Result = TypeVar("_Result")

LARGEST = torch.finfo(torch.float32).max
"""Of numbers: arithmetic is in float32."""

FLOATING = (torch.float32, torch.float64, torch.bfloat16, torch.float16)
"""Types of features, poses and other coordinates."""

_PLAIN = {int, float, str}
_WHOLE = {int}
_UNKNOWN = object()
_MOST_REMEMBERED = 256


def check_tensor(value: object, name: str, shape: str, dtypes: Sequence[torch.dtype] = FLOATING) -> Tensor:
    """The value, once it is known to be a tensor of one of the types; ``shape`` says in words what it should hold.

    Raises:
        TypeError: it is no tensor, or one of another type.
    """
    if not isinstance(value, Tensor):
        raise TypeError(
            f"{name} is a {type(value).__name__}; expected {_words(dtypes)} {shape} as a torch tensor "
            "(torch.as_tensor converts)"
        )
    if value.dtype not in dtypes:
        raise TypeError(
            f"{name} has dtype {value.dtype}; expected {_words(dtypes)} {shape}: convert it with .to({dtypes[0]})"
        )
    check_layout(value, name)
    return value


def check_layout(tensor: Tensor, name: str) -> None:
    """Refuses sparse tensors.

    Raises:
        TypeError: it is one.
    """
    if tensor.layout != torch.strided:
        raise TypeError(f"{name} has layout {tensor.layout}; expected a dense tensor: convert it with .to_dense()")


def add_batch(tensor: Tensor, name: str, shape: str, rank: int) -> tuple[Tensor, bool]:
    """The tensor with a batch axis, and whether it already had one. ``rank`` counts the batch axis.

    Raises:
        ValueError: it has another number of axes.
    """
    if tensor.dim() not in (rank - 1, rank):
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {shape}, or that without the batch axis")
    batched = tensor.dim() == rank
    return (tensor if batched else tensor[None]), batched


def match_batch(tensor: Tensor, name: str, tail: tuple[int, ...], batch: int, batched: bool) -> Tensor:
    """A companion of the main argument as [batch, *tail]: it has a batch axis exactly if the main argument had one.

    Raises:
        ValueError: another shape.
    """
    expected = (batch, *tail) if batched else tail
    if tuple(tensor.shape) != expected:
        raise ValueError(f"{name} has shape {tuple(tensor.shape)}; expected {list(expected)} beside this batch")
    return tensor if batched else tensor[None]


def check_devices(main: Tensor, main_name: str, **others: object) -> None:
    """Every tensor among the others lives where the main one does; whatever else they are is let pass.

    Raises:
        ValueError: tensors on different devices.
    """
    for name, other in others.items():
        if isinstance(other, Tensor) and other.device != main.device:
            raise ValueError(
                f"{main_name} is on {main.device} and {name} on {other.device}; move both to one device with .to()"
            )


def camera_rows(camera: CameraLike, batch: int, batched: bool, device: torch.device) -> Tensor:
    """A camera argument as float32 [batch, 4] = fx, fy, cx, cy in pixels.

    Raises:
        TypeError: no camera, or a tensor that is not floating-point.
        ValueError: values that no camera has, or another number of cameras than samples.
    """
    if isinstance(camera, Camera) and _keeps_constants(device):
        return _constant_rows(batch, camera.fx, camera.fy, camera.cx, camera.cy)
    rows = intrinsics(camera, device=device)
    if rows.dim() == 2 and not (batched and rows.shape[0] == batch):
        wanted = f"[4] or [{batch}, 4]" if batched else "[4]"
        raise ValueError(f"camera tensor has shape {tuple(rows.shape)}; expected {wanted} beside this batch")
    return rows.expand(batch, 4)


def cube_rows(cube: float | Tensor, batch: int, batched: bool, device: torch.device) -> Tensor:
    """A cube argument as float32 [batch, 3]: half edges along x, y and z in mm.

    Raises:
        TypeError: neither a number nor a real tensor.
        ValueError: a number that is not positive and finite, or a shape that is not a scalar, [B] or [B, 3].
    """
    if not isinstance(cube, Tensor):
        edge = positive(cube, "cube", "half edge in mm")
        if _keeps_constants(device):
            return _constant_rows(batch, edge, edge, edge)
        return torch.full((3,), edge, dtype=torch.float32, device=device).expand(batch, 3)
    if cube.is_complex() or cube.dtype == torch.bool:
        raise TypeError(f"cube has dtype {cube.dtype}; expected half edges in mm as real numbers")
    check_layout(cube, "cube")
    shape = tuple(cube.shape)
    if shape not in (((), (batch,), (batch, 3)) if batched else ((), (3,))):
        wanted = f"a scalar, [{batch}] or [{batch}, 3]" if batched else "a scalar or [3]"
        raise ValueError(f"cube has shape {shape}; expected {wanted} half edges in mm beside this batch")
    cube = cube.to(torch.float32)
    return (cube[:, None] if batched and cube.dim() == 1 else cube).expand(batch, 3)


@functools.lru_cache(256)
def _constant_rows(batch: int, *values: float) -> Tensor:
    """float32 [batch, len(values)] on the CPU, made once: to make it takes longer than all of a call's checks."""
    with torch.inference_mode(False):  # of use within and without
        return torch.tensor(values, dtype=torch.float32, device="cpu").expand(batch, len(values))


def _keeps_constants(device: torch.device) -> bool:
    """Whether a tensor may outlive the call: not one that is traced or faked, nor one of a CUDA graph."""
    return device.type == "cpu" and not torch.compiler.is_compiling() and not is_in_torch_dispatch_mode()


def remembered(check: Callable[_Values, _Result]) -> Callable[_Values, _Result]:
    """Keeps what a check returned for the next call with the same numbers and words and with tensors of the same kind.

    A dozen checks take longer than the rest of a call's Python, most of all when the last call has emptied the caches.
    What a check returns must depend on nothing else.
    """
    known: dict[object, _Result] = {}

    @functools.wraps(check)
    def call(*values: _Values.args, **named: _Values.kwargs) -> _Result:
        key = None if named or torch.compiler.is_compiling() else tuple(map(_kind, values))
        if key is None or _UNKNOWN in key:
            return check(*values, **named)
        result = known.get(key, _UNKNOWN)
        if result is _UNKNOWN:
            result = check(*values, **named)
            if len(known) >= _MOST_REMEMBERED:
                known.clear()
            known[key] = result
        return cast(_Result, result)

    return call


def _kind(value: object) -> object:
    """What checks look at of a value: equal only if they find the same."""
    kind = type(value)
    if kind is Tensor or kind is torch.nn.Parameter:
        tensor = cast(Tensor, value)
        return tensor.dtype, tensor.layout, tensor.device, tensor.shape
    if kind in _PLAIN:
        return kind, value
    if kind is tuple or kind is list:
        values = cast(Sequence[object], value)
        return tuple(values) if _WHOLE.issuperset(map(type, values)) else _UNKNOWN
    return _UNKNOWN


def number(value: object, name: str, meaning: str, *, finite: bool = True) -> float:
    """The value as a float that float32 holds; infinite only where ``finite`` is not asked for.

    Raises:
        TypeError: not a number.
        ValueError: NaN, infinite, or beyond float32.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} is a {type(value).__name__}; expected a number: {meaning}")
    try:
        result = float(value)
    except OverflowError:  # a whole number beyond any float
        result = 2 * LARGEST
    if math.isnan(result) or (finite and math.isinf(result)):
        raise ValueError(f"{name} is {value}; expected a {'finite ' * finite}number: {meaning}")
    if LARGEST < abs(result) < math.inf:
        raise ValueError(f"{name} is {str(value)[:20]}; expected a number of at most {LARGEST:.2g}: {meaning}")
    return result


def positive(value: object, name: str, meaning: str) -> float:
    """The value as a float above 0.

    Raises:
        TypeError: not a number.
        ValueError: not positive and finite.
    """
    result = number(value, name, meaning)
    if result <= 0:
        raise ValueError(f"{name} is {value}; expected a positive number: {meaning}")
    return result


def whole(value: object, name: str, meaning: str, *, least: int = 1, most: int = 2**31 - 1) -> int:
    """The value as an int in least..most.

    Raises:
        TypeError: not a whole number.
        ValueError: outside the range.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} is a {type(value).__name__}; expected a whole number: {meaning}")
    result = operator.index(value)
    if not least <= result <= most:
        raise ValueError(f"{name} is {result}; expected {least} to {most}: {meaning}")
    return result


def choice(value: object, name: str, options: Sequence[str]) -> str:
    """The value, once it is known to be one of the options.

    Raises:
        ValueError: it is none of them.
    """
    if not isinstance(value, str) or value not in options:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(map(repr, options))}")
    return value


def _words(dtypes: Sequence[torch.dtype]) -> str:
    names = [str(dtype).removeprefix("torch.") for dtype in dtypes]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
