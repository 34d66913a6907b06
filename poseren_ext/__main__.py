# SPDX-License-Identifier: MIT
"""`python -m poseren_ext COMMAND` is `poseren COMMAND`."""

from poseren_ext.cli import main

main()
