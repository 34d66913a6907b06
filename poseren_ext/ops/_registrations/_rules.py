# SPDX-License-Identifier: MIT
"""Rules for autograd, autocast and vmap that several operators share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch._functorch.utils import enable_single_level_autograd_function
from torch.autograd import Function
from torch.autograd.function import _SingleLevelFunction

from poseren_ext.ops._autograd import fold_batch, has_tangent

_libraries: list[torch.library.Library] = []  # a registration lives as long as its library object


def differentiable(namespace: str, name: str, function: type[Function]) -> None:
    """Gives an operator the backward formula of an autograd function; it refuses forward mode.

    With torch.library.register_autograd, forward mode would give 0 and torch.func.grad would be refused.
    """
    op = getattr(getattr(torch.ops, namespace), name).default

    def forward(keys: Any, *args: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return op.redispatch(keys & torch._C._after_autograd_keyset, *args)

    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        function.setup_context(ctx, inputs[1:], output)

    def backward(ctx: Any, *gradients: Any) -> Any:
        ctx.needs_input_grad = ctx.needs_input_grad[1:]
        return None, *function.backward(ctx, *gradients)

    methods: dict[str, Any] = {"forward": forward, "setup_context": setup_context, "backward": backward}
    methods = {key: staticmethod(method) for key, method in methods.items()}
    differentiable: Any = type(function.__name__, (_SingleLevelFunction,), methods)

    def kernel(keys: Any, *args: Any) -> Any:
        if has_tangent(args):
            raise RuntimeError(
                f"torch.ops.{namespace}.{name} has no forward-mode derivative; call the functions of poseren_ext.ops"
            )
        if not (torch.is_grad_enabled() and torch._C._any_requires_grad(*args)):
            return forward(keys, *args)
        with enable_single_level_autograd_function():
            return differentiable.apply(keys, *args)

    library = torch.library.Library(namespace, "FRAGMENT")  # type: ignore[no-untyped-call]
    _libraries.append(library)
    library.impl(name, kernel, "Autograd", with_keyset=True)  # type: ignore[no-untyped-call]


def autocast_keeps_types(namespace: str, name: str, float32: Collection[int] = ()) -> None:
    """Under autocast an operator takes its tensors as they are, except those at the positions ``float32``: in float32.

    torch.library.register_autocast would cast every floating-point tensor to autocast's type: coordinates in bfloat16
    are wrong by pixels.
    """
    op = getattr(getattr(torch.ops, namespace), name).default
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
    """Registers :func:`fold_batch` as the vmap rule of an operator."""
    op = getattr(getattr(torch.ops, namespace), name).default

    def rule(info: Any, in_dims: Sequence[Any], *args: Any) -> tuple[Any, Any]:
        return fold_batch(op, info, in_dims, args, output_axes, shared)

    torch.library.register_vmap(f"{namespace}::{name}", rule)
