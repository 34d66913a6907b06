# SPDX-License-Identifier: MIT
"""Viewer of depth, hand and cascade in the browser. It needs viser: ``pip install 'poseren_ext[viewer]'``."""

from poseren_ext.viewer.app import Viewer, view_recording, view_stream
from poseren_ext.viewer.scene import View

__all__ = ["View", "Viewer", "view_recording", "view_stream"]
