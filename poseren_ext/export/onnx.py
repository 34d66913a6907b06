# SPDX-License-Identifier: MIT
"""The estimator as an ONNX file: standard operators only, so that any ONNX runtime can run it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Literal

import torch

from poseren_ext._utils.atomic_files import atomic_path
from poseren_ext.export.decompositions import onnx_decompositions
from poseren_ext.export.graph import DetectionGraph, EstimatorGraph, FrameGraph, estimator_graph
from poseren_ext.inference.estimator import Hand
from poseren_ext.inference.learnt_detection import LEAST_SCORE
from poseren_ext.models import PoseREN

MIN_OPSET = 18


def export_onnx(
    model: PoseREN,
    path: str | os.PathLike[str],
    *,
    stages: int = 3,
    hand: Hand | None = None,
    depth_range: tuple[float, float] | None = None,
    detect: tuple[int, int] | None = None,
    invalid: float | Literal["background"] = "background",
    depth_unit: float = 1.0,
    opset: int = 20,
) -> None:
    """Write the estimator, from depth frames to joints, as one ONNX file.

    The inputs are float32, with any number of frames and any frame size: ``depth`` [B, H, W] as stored, ``center``
    [B, 3] (u, v in pixels, d in mm) and ``camera`` [B, 4] (fx, fy, cx, cy in pixels). The outputs are ``joints``
    [B, J, 3] in mm and ``uvd`` [B, J, 3]. With a range of depths or ``detect`` there is no input ``center``: the graph
    computes it and it becomes the third output; ``detect`` adds the ``score`` [B] of the detection, and fixes the frame
    size. The last output of a model with an error head is ``error_mm`` [B], the predicted mean joint error. Metadata
    names joints and units. The model's mode stays as it is.

    Args:
        model: The estimator.
        path: The file, by convention ``*.onnx``; an existing file is replaced.
        stages: T, the number of refinement stages.
        hand: The hand that the frames show, "left" or "right"; default: the model's. "auto" decides for each frame by
            the predicted errors, and adds the output left, bool [B].
        depth_range: Nearest and farthest depth of the hand in mm: the centre is then computed in the graph, from all
            pixels in this range (see :class:`FrameGraph`).
        detect: Detect the hand with the bundled network (see :class:`DetectionGraph`), in frames of this height and
            width.
        invalid: Depth in mm that replaces pixels without depth, or "background", the far face of the cube.
        depth_unit: mm per stored unit.
        opset: Version of the standard operators.

    Raises:
        FileNotFoundError: The folder does not exist.
        ModuleNotFoundError: onnx or onnxscript is not installed.
        ValueError: The opset is below 18, or a setting is invalid.
    """
    try:
        import onnx
        import onnxscript.optimizer
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(f"{error}; exporting to ONNX needs: pip install 'poseren_ext[onnx]'") from error
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}; create it first")
    if opset < MIN_OPSET:
        raise ValueError(f"opset is {opset}; expected {MIN_OPSET} or later")
    graph = estimator_graph(
        model, depth_range, detect, stages=stages, hand=hand, invalid=invalid, depth_unit=depth_unit
    )
    with torch.no_grad():
        program = torch.onnx.export(
            graph.program(torch.float32).run_decompositions(onnx_decompositions()),
            input_names=graph.inputs,
            output_names=graph.outputs,
            opset_version=opset,
            dynamo=True,
            optimize=False,  # its rewriting takes minutes; runtimes do that themselves
            verbose=False,
        )
    assert program is not None
    onnxscript.optimizer.fold_constants(program.model)
    onnxscript.optimizer.remove_unused_nodes(program.model)
    proto = program.model_proto
    onnx.helper.set_model_props(proto, _metadata(graph))
    with atomic_path(path) as draft:
        onnx.save(proto, draft)
        onnx.checker.check_model(draft, full_check=True)


def _metadata(graph: EstimatorGraph) -> dict[str, str]:
    config = graph.model.config
    metadata = {
        "format": "poseren_ext estimator",
        "skeleton": config.skeleton,
        "joint_names": json.dumps(graph.model.skeleton.joints),
        "hand": graph.hand,
        "cube_half_edge_mm": str(config.cube),
        "stages": str(graph.stages),
        "mm_per_depth_unit": str(graph.depth_unit),
        "joints": "mm: x right, y down, z forward",
        "uvd": "pixels, pixels, mm",
    }
    if isinstance(graph, FrameGraph):
        metadata["depth_range_mm"] = json.dumps([graph.near, graph.far])
    if isinstance(graph, DetectionGraph):
        metadata["least_score"] = str(LEAST_SCORE)
    if graph.model.error is not None:
        metadata["error_mm"] = "predicted mean joint error, mm"
    return metadata
