# SPDX-License-Identifier: MIT
"""Libraries that only some functions need: imported when these are called, each of them an extra of the package."""

from __future__ import annotations

import importlib
from typing import Any


def import_library(module: str, extra: str, user: str) -> Any:
    """A module of an optional library.

    Args:
        module: its name, such as "rosbags.highlevel".
        extra: the extra of this package that installs the library.
        user: what needs it, in the plural, the beginning of the message.

    Raises:
        ModuleNotFoundError: The library is not installed; the message names the extra.
    """
    library = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is not None and error.name.partition(".")[0] != library:  # installed, but incomplete
            raise
        raise ModuleNotFoundError(f"{user} need {library}: pip install 'poseren_ext[{extra}]'", name=library) from None
