# SPDX-License-Identifier: MIT
"""Depth, hand and cascade in the browser. Needs viser: ``pip install 'poseren_ext[viewer]'``."""

from poseren_ext.viewer.app import Viewer, view_recording, view_stream
from poseren_ext.viewer.scene import View

__all__ = ["View", "Viewer", "view_recording", "view_stream"]
