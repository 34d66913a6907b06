# SPDX-License-Identifier: MIT
"""Rules for autograd, autocast and vmap that hold for most ops."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor

_TORCHS_OWN = {Tensor, torch.nn.Parameter}
_libraries: list[torch.library.Library] = []  # a registration lives as long as its library object

straight: dict[tuple[str, str], Callable[..., Any]] = {}
"""By namespace and name, an op that is :func:`differentiable`. Where nothing but autograd listens, its kernel is called
from Python: the dispatcher would make numbers of Python's numbers, and of these Python's again, before it did so."""


def overload(namespace: str, name: str) -> Any:
    """``torch.ops.<namespace>.<name>.default``."""
    return getattr(getattr(torch.ops, namespace), name).default


def differentiable(namespace: str, name: str, function: type[torch.autograd.Function], *, tensors: int) -> None:
    """Lets an op be recorded by an autograd function of our own.

    What torch.library.register_autograd makes is of the same parts of torch and does the same, but most of its work
    comes after the op, whose result has emptied the caches: 0.1 ms more, where 128 samples are pooled in 1.2 ms forward
    and backward.

    Args:
        namespace: the ops' namespace.
        name: the op's name.
        function: called as ``apply(keyset, *tensors, others)``; its ``forward`` hands all on to :func:`below_autograd`.
        tensors: how many of the op's arguments, the first ones, are tensors.
    """
    op = overload(namespace, name)
    library = torch.library.Library(namespace, "FRAGMENT")  # type: ignore[no-untyped-call]
    _libraries.append(library)

    def kernel(keyset: Any, *args: Any) -> Any:
        if torch.is_grad_enabled() and torch._C._any_requires_grad(*args):
            return function.apply(keyset, *args[:tensors], args[tensors:])  # type: ignore[no-untyped-call]
        return below_autograd(op, keyset, *args)

    library.impl(name, kernel, "Autograd", with_keyset=True)  # type: ignore[no-untyped-call]

    def call(*args: Any) -> Any:
        return kernel(None, *args) if _only_autograd_listens(*args[:tensors]) else op(*args)

    straight[namespace, name] = call


def below_autograd(op: Any, keyset: Any, *args: Any) -> Any:
    """What an op returns, not recorded; within a kernel of the op for autograd, with the ``keyset`` given to that."""
    with torch._C._AutoDispatchBelowAutograd():
        if keyset is None:
            return op(*args)
        return op.redispatch(keyset & torch._C._after_autograd_keyset, *args)


def _only_autograd_listens(*tensors: Tensor) -> bool:
    """Whether the tensors are of torch's own types, and no transform, mode or tracer is about."""
    return (
        not torch.compiler.is_compiling()
        and _TORCHS_OWN.issuperset(map(type, tensors))
        and not torch._C._len_torch_dispatch_stack()
        and not torch._C._len_torch_function_stack()
        and torch._C._functorch.peek_interpreter_stack() is None
        and not torch._C._is_tracing()
    )


def recorded_if_wanted(op: Any, *args: Any) -> Any:
    """What an op returns within a backward pass, which is recorded only for a second one (``create_graph``)."""
    if torch.is_grad_enabled():
        return op(*args)
    with torch._C._AutoDispatchBelowAutograd():
        return op(*args)


def autocast_keeps_types(namespace: str, name: str, float32: Collection[int] = ()) -> None:
    """Under autocast an op takes its tensors as they are, but those at the positions ``float32`` in that type.

    torch.library.register_autocast would cast every floating tensor to autocast's type: coordinates in bfloat16 are off
    by pixels.
    """
    op = overload(namespace, name)
    library = torch.library.Library(namespace, "FRAGMENT")  # type: ignore[no-untyped-call]
    _libraries.append(library)
    for device, key in (("cpu", "AutocastCPU"), ("cuda", "AutocastCUDA")):

        def kernel(*args: Any, _device: str = device) -> Any:
            cast = [
                arg.float() if position in float32 and isinstance(arg, Tensor) else arg
                for position, arg in enumerate(args)
            ]
            with torch.autocast(_device, enabled=False):
                return op(*cast)

        library.impl(name, kernel, key)  # type: ignore[no-untyped-call]


def vmap_folds_batch(
    namespace: str, name: str, *, output_axes: Sequence[int] = (0,), shared: Collection[int] = ()
) -> None:
    """The vmap rule of an op whose tensors lead with a batch axis: the mapped axis is folded into it.

    Args:
        namespace: the ops' namespace.
        name: the op's name.
        output_axes: for each output, the position of its batch axis.
        shared: positions of tensors without a batch axis, such as weights; they cannot be mapped over.
    """
    op = overload(namespace, name)

    def rule(info: Any, in_dims: Sequence[Any], *args: Any) -> tuple[Any, Any]:
        folded = []
        for position, (arg, axis) in enumerate(zip(args, in_dims, strict=True)):
            if not isinstance(arg, Tensor) or (position in shared and axis is None):
                folded.append(arg)
            elif position in shared:
                raise NotImplementedError(f"{name}: argument {position} has no batch axis and cannot be mapped over")
            else:
                mapped = arg.expand(info.batch_size, *arg.shape) if axis is None else arg.movedim(axis, 0)
                folded.append(mapped.flatten(0, 1))
        outputs = op(*folded)
        if isinstance(outputs, Tensor):
            return _split(outputs, output_axes[0], info.batch_size), output_axes[0]
        parts = zip(outputs, output_axes, strict=True)
        return tuple(_split(output, axis, info.batch_size) for output, axis in parts), tuple(output_axes)

    torch.library.register_vmap(f"{namespace}::{name}", rule)


def _split(folded: Tensor, axis: int, size: int) -> Tensor:
    shape = folded.shape
    return folded.reshape(*shape[:axis], size, shape[axis] // size, *shape[axis + 1 :])
