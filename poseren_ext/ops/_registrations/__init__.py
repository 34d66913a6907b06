# SPDX-License-Identifier: MIT
"""What the stable ABI does not have for the native ops: fake, autograd, autocast and vmap.

Each module here does it for one family of ops in its ``register(namespace)``. What they share is in ``_rules``.
"""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules

from poseren_ext.ops._registrations._rules import straight as straight


def register(namespace: str) -> None:
    """Registers all of it for the ops of ``torch.ops.<namespace>``: once, after the library with them was loaded."""
    for module in iter_modules(__path__):
        if not module.name.startswith("_"):
            import_module(f"{__name__}.{module.name}").register(namespace)
