# SPDX-License-Identifier: MIT
"""Pictures of hands and of errors. Each function returns a matplotlib Figure, which `save` writes to a file."""

from poseren_ext.plotting.curves import plot_comparison, plot_iterations, plot_viewpoints
from poseren_ext.plotting.hands import draw_crop, draw_skeleton, plot_cascade, plot_qualitative, plot_skeletons_3d
from poseren_ext.plotting.style import check_path, save

__all__ = [
    "check_path",
    "draw_crop",
    "draw_skeleton",
    "plot_cascade",
    "plot_comparison",
    "plot_iterations",
    "plot_qualitative",
    "plot_skeletons_3d",
    "plot_viewpoints",
    "save",
]
