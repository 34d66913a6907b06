# SPDX-License-Identifier: MIT
"""Griffe extension that turns reStructuredText roles in docstrings into Markdown code."""

from __future__ import annotations

import re
from typing import Any

from griffe import Extension, Object

_ROLE = re.compile(r":[a-z]+:`~?([^`]+)`")


class Roles(Extension):
    """Replace ``:func:`refine``` by `refine`."""

    def on_object(self, *, obj: Object, **_: Any) -> None:
        """Rewrite the docstring."""
        if obj.docstring:
            obj.docstring.value = _ROLE.sub(r"`\1`", obj.docstring.value)
