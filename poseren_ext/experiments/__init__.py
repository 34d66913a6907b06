# SPDX-License-Identifier: MIT
"""The paper's tables and figures, on published predictions, synthetic hands or recorded frames."""

NAMES = ("table1", "fig5", "fig6", "fig7", "fig8", "fig9", "fig10", "fig11", "fig12", "table2", "fig13", "fig14")
"""Names of the experiments of `poseren experiment`, in the order of the paper."""
