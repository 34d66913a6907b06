# SPDX-License-Identifier: MIT
"""An extension of Griffe: roles of reStructuredText in docstrings become plain code, as Markdown writes it."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":[a-z]+:`~?([^`]+)`")


class Roles(Extension):
    """``:func:`refine``` reads as `refine`."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrites the docstring."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)
