# SPDX-License-Identifier: MIT
"""The paper's tables and figures, each from one command: on published predictions or on synthetic hands."""

NAMES = ("table1", "fig5", "fig6", "fig7", "fig8", "fig9", "fig10", "fig11", "fig12", "table2", "fig13", "fig14")
"""What `poseren experiment` runs, in the paper's order."""
