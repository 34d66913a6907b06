# SPDX-License-Identifier: MIT
"""Rules for autocast and vmap that several operators share."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import torch
from torch import Tensor

from poseren_ext.ops._autograd import fold_batch

_libraries: list[torch.library.Library] = []  # a registration lives as long as its library object


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
