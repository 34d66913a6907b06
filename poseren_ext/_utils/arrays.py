# SPDX-License-Identifier: MIT
"""Arrays of every kind: numpy, and whatever speaks DLPack or ``__array__``. In on the same memory, out as they came."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.dlpack import from_dlpack

P = ParamSpec("P")
R = TypeVar("R")
Kind = TypeVar("Kind")

_OTHERS = (Tensor, np.generic, int, float, str, type(None))
"""Arguments that are no such arrays, or of types derived from these."""
_MOST = {Tensor, torch.nn.Parameter, int, float, bool, str, tuple, list, type(None)}
"""What most arguments are: looked up, they need no further question."""
_LISTS = ("joints", "camera")
"""Arguments that are few numbers: a numpy array does as well as a tuple."""


def is_array(value: object) -> bool:
    """Whether it is an array of another kind than torch's; numpy's scalars are numbers."""
    if type(value) in _MOST or isinstance(value, _OTHERS):
        return False
    return hasattr(type(value), "__dlpack__") or hasattr(type(value), "__array__")


def as_tensor(array: Any) -> Tensor:
    """An array as a tensor: on the same memory, unless numpy's byte order or a negative stride forbids it.

    Args:
        array: a tensor (given back), a numpy array, what has ``__dlpack__`` or ``__array__``, or nested numbers.

    Raises:
        TypeError: a type of element that torch does not have.
    """
    if not is_array(array):
        return torch.as_tensor(array)
    if isinstance(array, np.ndarray) or not hasattr(array, "__dlpack__"):
        return _from_numpy(np.asarray(array))
    tensor: Tensor = from_dlpack(array)
    return tensor


def like(result: Tensor, given: Kind) -> Kind:
    """A result as the kind of array that was given, on the same memory; numpy's where the kind cannot read DLPack."""
    converted: Any = result
    if not isinstance(given, Tensor):
        namespace = None if isinstance(given, np.ndarray) else getattr(given, "__array_namespace__", None)
        result = result.detach()
        converted = result.cpu().numpy() if namespace is None else namespace().from_dlpack(result)
    return cast("Kind", converted)


def stored_at(depth: Tensor, *places: Tensor) -> Tensor:
    """``depth[places]``, of uint16 as int32: some releases of PyTorch cannot index uint16 on a GPU."""
    if depth.dtype == torch.uint16:
        return depth.view(torch.int16)[places].to(torch.int32) & 0xFFFF
    return depth[places]


def takes_arrays(function: Callable[P, R]) -> Callable[P, R]:
    """A function of tensors that takes other arrays too; its tensors come back as the first argument's kind."""
    names = tuple(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        if not any(map(is_array, args)) and not any(map(is_array, kwargs.values())):
            return function(*args, **kwargs)
        given = {**dict(zip(names, args, strict=False)), **kwargs}
        for name in [name for name, value in given.items() if is_array(value)]:
            if name not in _LISTS or not isinstance(given[name], np.ndarray):
                given[name] = as_tensor(given[name])
        first = args[0] if args else kwargs.get(names[0])
        return cast("R", _all_like(function(**given), first))  # type: ignore[arg-type, call-arg]

    return call


def _all_like(result: Any, given: object) -> Any:
    if isinstance(result, tuple):
        return tuple(_all_like(part, given) for part in result)
    return like(result, given) if isinstance(result, Tensor) else result


def _from_numpy(array: npt.NDArray[Any]) -> Tensor:
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    if any(stride < 0 for stride in array.strides):
        array = array.copy()
    # torch.from_numpy warns of memory that must not be written to; DLPack lets it pass, and we only read.
    return torch.from_numpy(array) if array.flags.writeable else from_dlpack(array)
