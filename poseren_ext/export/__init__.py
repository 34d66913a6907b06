# SPDX-License-Identifier: MIT
"""Export of estimators: ONNX files with standard operators, and packages compiled ahead of time for C++."""

from poseren_ext.export.decompositions import onnx_decompositions
from poseren_ext.export.graph import DetectionGraph, EstimatorGraph, FrameGraph
from poseren_ext.export.onnx import export_onnx
from poseren_ext.export.package import export_package, ops_library

__all__ = [
    "DetectionGraph",
    "EstimatorGraph",
    "FrameGraph",
    "export_onnx",
    "export_package",
    "onnx_decompositions",
    "ops_library",
]
