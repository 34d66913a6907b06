# SPDX-License-Identifier: MIT
"""The estimator as an ONNX file: standard operators only, so that any ONNX runtime can run it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

import torch

from poseren_ext._utils.atomic_files import atomic_path
from poseren_ext.export.graph import INPUTS, OUTPUTS, EstimatorGraph
from poseren_ext.models import PoseREN

MIN_OPSET = 18


def export_onnx(
    model: PoseREN,
    path: str | os.PathLike[str],
    *,
    stages: int = 3,
    invalid: float | Literal["background"] = "background",
    depth_unit: float = 1.0,
    opset: int = 20,
) -> None:
    """Write the estimator, from depth frames to joints, as one ONNX file.

    The inputs are float32, with any number of frames and any frame size: ``depth`` [B, H, W] as stored, ``center``
    [B, 3] (u, v in pixels, d in mm) and ``camera`` [B, 4] (fx, fy, cx, cy in pixels). The outputs are ``joints``
    [B, J, 3] in mm and ``uvd`` [B, J, 3]. The metadata names joints and units. The model's mode stays as it is.

    Args:
        model: The estimator.
        path: The file, by convention ``*.onnx``; an existing file is replaced.
        stages: T, the number of refinement stages.
        invalid: Depth in mm that replaces pixels without depth, or "background", the far face of the cube.
        depth_unit: mm per stored unit.
        opset: Version of the standard operators.

    Raises:
        FileNotFoundError: The folder does not exist.
        ModuleNotFoundError: onnx or onnxscript is not installed.
        ValueError: The opset is below 18, or the number of stages negative.
    """
    try:
        import onnx
        import onnxscript  # noqa: F401  needed by torch.onnx
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; exporting to ONNX needs: pip install 'poseren_ext[onnx]'") from error
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}; create it first")
    if opset < MIN_OPSET:
        raise ValueError(f"opset is {opset}; expected {MIN_OPSET} or later")
    graph = EstimatorGraph(model, stages=stages, invalid=invalid, depth_unit=depth_unit)
    device = model.mean_pose.device
    # Two frames of 5x6 pixels: these sizes differ from all others, so that the exporter does not merge axes.
    example = (
        torch.full((2, 5, 6), 500.0, dtype=torch.float32, device=device),
        torch.tensor([[3.0, 2.0, 500.0]], dtype=torch.float32, device=device).expand(2, 3).contiguous(),
        torch.tensor([[500.0, 500.0, 3.0, 2.0]], dtype=torch.float32, device=device).expand(2, 4).contiguous(),
    )
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    with torch.no_grad():
        program = torch.onnx.export(
            graph,
            example,
            input_names=INPUTS,
            output_names=OUTPUTS,
            dynamic_shapes=({0: batch, 1: height, 2: width}, {0: batch}, {0: batch}),
            opset_version=opset,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    proto = program.model_proto
    onnx.helper.set_model_props(proto, _metadata(model, stages, depth_unit))
    with atomic_path(path) as draft:
        onnx.save(proto, draft)
        onnx.checker.check_model(draft, full_check=True)


def _metadata(model: PoseREN, stages: int, depth_unit: float) -> dict[str, str]:
    config = model.config
    return {
        "format": "poseren_ext estimator",
        "skeleton": config.skeleton,
        "joint_names": json.dumps(model.skeleton.joints),
        "hand": config.hand,
        "cube_half_edge_mm": str(config.cube),
        "stages": str(stages),
        "mm_per_depth_unit": str(depth_unit),
        "joints": "mm: x right, y down, z forward",
        "uvd": "pixels, pixels, mm",
    }
