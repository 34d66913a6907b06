# SPDX-License-Identifier: MIT
"""What the stable ABI does not have for the native operators: fake tensors, autograd, autocast and vmap.

Each module's ``register(namespace)`` does it for one family of operators. Shared code is in ``_rules``.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules


def register(namespace: str) -> None:
    """Registers everything for ``torch.ops.<namespace>``: once, after its library is loaded."""
    for module in iter_modules(__path__):
        if not module.name.startswith("_"):
            import_module(f"{__name__}.{module.name}").register(namespace)
