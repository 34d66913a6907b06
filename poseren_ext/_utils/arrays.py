# SPDX-License-Identifier: MIT
"""Tensors, and arrays of other libraries: numpy, DLPack and ``__array__``. Results have the kind of the input."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.overrides import handle_torch_function, has_torch_function
from torch.utils.dlpack import from_dlpack

P = ParamSpec("P")
R = TypeVar("R")
Kind = TypeVar("Kind")
Batch = TypeVar("Batch")

_NOT_ARRAYS = (Tensor, np.generic, int, float, str, type(None))
"""Types of arguments, and their subclasses, that are not arrays of another library."""
_COMMON = {Tensor, torch.nn.Parameter, int, float, bool, str, tuple, list, type(None)}
"""Exact types of most arguments: checked first, because a look-up is fast."""
_SEQUENCES = ("joints", "camera")
"""Arguments that are a few numbers: the ops read a numpy array as a sequence."""


def is_array(value: object) -> bool:
    """Whether the value is an array of another library than torch; numpy's scalars are numbers."""
    if type(value) in _COMMON or isinstance(value, _NOT_ARRAYS):
        return False
    return hasattr(type(value), "__dlpack__") or hasattr(type(value), "__array__")


def as_tensor(array: Any) -> Tensor:
    """An array as a tensor that shares its memory, where torch can: read it, do not write to it.

    A copy is made of an array in the other byte order, with a negative stride, or with masked elements
    (``numpy.ma``). A masked element becomes NaN in floating-point arrays, else 0 (False): no depth.

    Args:
        array: A tensor (returned as it is), a numpy array, an object with ``__dlpack__`` or ``__array__``, or nested
            numbers (which become a CPU tensor, whatever torch's default device is).

    Raises:
        TypeError: torch has no such element type.
    """
    if isinstance(array, Tensor):
        return array
    if not is_array(array):
        return torch.as_tensor(array, device="cpu")
    if isinstance(array, np.ndarray) or not hasattr(array, "__dlpack__"):
        return _from_numpy(np.asanyarray(array))
    tensor: Tensor = from_dlpack(array)
    return tensor


def joined(parts: Sequence[Batch]) -> Batch:
    """Dataclasses as one: tensors concatenated along their first axes, other fields as in the first."""
    kind: Any = type(parts[0])
    values = [[getattr(part, one.name) for part in parts] for one in fields(kind)]
    return cast("Batch", kind(*(torch.cat(each) if isinstance(each[0], Tensor) else each[0] for each in values)))


def like(result: Tensor, given: Kind) -> Kind:
    """A result as the given kind of array, sharing its memory; as numpy's if that kind cannot import DLPack."""
    converted: Any = result
    if not isinstance(given, Tensor):
        namespace = None if isinstance(given, np.ndarray) else getattr(given, "__array_namespace__", None)
        result = result.detach()
        converted = result.cpu().numpy() if namespace is None else namespace().from_dlpack(result)
    return cast("Kind", converted)


def stored_at(depth: Tensor, *places: Tensor) -> Tensor:
    """``depth[places]``, with uint16 as int32: some PyTorch releases cannot index uint16 on a GPU."""
    if depth.dtype == torch.uint16:
        return depth.view(torch.int16)[places].to(torch.int32) & 0xFFFF
    return depth[places]


def takes_arrays(function: Callable[P, R]) -> Callable[P, R]:
    """Makes a function of tensors accept other arrays; its results have the kind of the first argument.

    The result is a public function in the sense of ``torch.overrides``: tensor-like arguments with
    ``__torch_function__`` (torch.fx proxies, subclasses) receive the call.
    """
    names = tuple(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if torch.compiler.is_compiling():
            return function(*args, **kwargs)
        values = (*args, *kwargs.values())
        if has_torch_function(values):
            return handle_torch_function(call, values, *args, **kwargs)
        if not any(map(is_array, values)):
            return function(*args, **kwargs)
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        for name in [name for name, value in given.items() if is_array(value)]:
            if name not in _SEQUENCES or not isinstance(given[name], np.ndarray):
                given[name] = as_tensor(given[name])
        first = args[0] if args else kwargs.get(names[0])
        return cast("R", _all_like(function(**given), first))  # type: ignore[arg-type, call-arg]

    return call


def _all_like(result: Any, given: object) -> Any:
    if isinstance(result, tuple):
        return tuple(_all_like(part, given) for part in result)
    return like(result, given) if isinstance(result, Tensor) else result


class _Writable:
    """A read-only array's memory for torch.from_numpy, which warns of read-only arrays; numpy 1 cannot export them."""

    def __init__(self, array: npt.NDArray[Any]) -> None:
        self.array = array  # keeps the memory alive
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


def _from_numpy(array: npt.NDArray[Any]) -> Tensor:
    if isinstance(array, np.ma.MaskedArray):
        array = array.filled(np.nan if array.dtype.kind in "fc" else 0)
    array = np.asarray(array)
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 for stride in array.strides):
        array = array.copy()
    if not array.flags.writeable:
        array = np.asarray(_Writable(array))
    return torch.from_numpy(array)
