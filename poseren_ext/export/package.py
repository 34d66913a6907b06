# SPDX-License-Identifier: MIT
"""The estimator compiled ahead of time: a package for C++ programs with libtorch but without Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch

from poseren_ext._utils.atomic_files import atomic_path
from poseren_ext.export.graph import estimator_graph
from poseren_ext.inference.estimator import Hand
from poseren_ext.models import PoseREN
from poseren_ext.ops import _native

OPS_LIBRARY = "libposeren_ops.so"


def ops_library() -> Path:
    """The shared library of the compiled ops, for C++ programs to link or load. It does not need Python."""
    return _native.extension_file().with_name(OPS_LIBRARY)


def export_package(
    model: PoseREN,
    path: str | os.PathLike[str],
    *,
    stages: int = 3,
    hand: Hand | None = None,
    depth_range: tuple[float, float] | None = None,
    detect: tuple[int, int] | None = None,
    depth_dtype: torch.dtype = torch.uint16,
    invalid: float | Literal["background"] = "background",
    depth_unit: float = 1.0,
) -> None:
    """Compile the estimator, from depth frames to joints, with AOTInductor into one ``.pt2`` package.

    The package runs on the device that the model is on. The inputs, with any number of frames and any frame size, are
    depth [B, H, W] of ``depth_dtype``, center [B, 3] (u, v in pixels, d in mm) and camera [B, 4] (fx, fy, cx, cy in
    pixels), both float32. The outputs are joints [B, J, 3] in mm and uvd [B, J, 3]. With a range of depths or
    ``detect`` there is no input center: the package computes it and it becomes the third output; ``detect`` adds the
    score [B] of the detection, and fixes the frame size. The last output of a model with an error head is the predicted
    mean joint error [B] in mm. ``examples/cpp`` shows how to run both. The model's mode stays as it is.

    Args:
        model: The estimator.
        path: The package, ``*.pt2``; an existing file is replaced.
        stages: T, the number of refinement stages.
        hand: The hand that the frames show, "left" or "right"; default: the model's. "auto" decides for each frame by
            the predicted errors, and adds the output left, bool [B].
        depth_range: Nearest and farthest depth of the hand in mm: the centre is then computed in the package, from all
            pixels in this range (see :class:`FrameGraph`).
        detect: Detect the hand with the bundled network (see :class:`DetectionGraph`), in frames of this height and
            width.
        depth_dtype: uint16, int32, float16, bfloat16 or float32.
        invalid: Depth in mm that replaces pixels without depth, or "background", the far face of the cube.
        depth_unit: mm per stored unit.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The suffix is not .pt2, or a setting is invalid.
        RuntimeError: There is no C++ compiler.
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise ValueError(f"path is {path}; expected a name that ends in .pt2")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}; create it first")
    graph = estimator_graph(
        model, depth_range, detect, stages=stages, hand=hand, invalid=invalid, depth_unit=depth_unit
    )
    with torch.no_grad(), atomic_path(path) as draft:
        torch._inductor.aoti_compile_and_package(graph.program(depth_dtype), package_path=str(draft))
