# SPDX-License-Identifier: MIT
"""The estimator compiled ahead of time: a package for C++ programs with libtorch but without Python."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import torch

from poseren_ext._utils.atomic_files import atomic_path
from poseren_ext.export.graph import EstimatorGraph
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
    depth_dtype: torch.dtype = torch.uint16,
    invalid: float | Literal["background"] = "background",
    depth_unit: float = 1.0,
) -> None:
    """Compile the estimator, from depth frames to joints, with AOTInductor into one ``.pt2`` package.

    The package runs on the device that the model is on. The inputs, with any number of frames and any frame size, are
    depth [B, H, W] of ``depth_dtype``, center [B, 3] (u, v in pixels, d in mm) and camera [B, 4] (fx, fy, cx, cy in
    pixels), both float32. The outputs are joints [B, J, 3] in mm and uvd [B, J, 3]. ``examples/cpp`` shows how to run
    it. The model's mode stays as it is.

    Args:
        model: The estimator.
        path: The package, ``*.pt2``; an existing file is replaced.
        stages: T, the number of refinement stages.
        depth_dtype: uint16, int32, float16, bfloat16 or float32.
        invalid: Depth in mm that replaces pixels without depth, or "background", the far face of the cube.
        depth_unit: mm per stored unit.

    Raises:
        FileNotFoundError: The folder does not exist.
        ValueError: The suffix is not .pt2, or the number of stages is negative.
        RuntimeError: There is no C++ compiler.
    """
    path = Path(path)
    if path.suffix != ".pt2":
        raise ValueError(f"path is {path}; expected a name that ends in .pt2")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot write {path}: there is no folder {path.parent}; create it first")
    graph = EstimatorGraph(model, stages=stages, operators="compiled", invalid=invalid, depth_unit=depth_unit)
    device = model.mean_pose.device
    example = (
        torch.full((2, 5, 6), 500, dtype=depth_dtype, device=device),
        torch.full((2, 3), 500.0, dtype=torch.float32, device=device),
        torch.full((2, 4), 500.0, dtype=torch.float32, device=device),
    )
    batch, height, width = (torch.export.Dim(name) for name in ("batch", "height", "width"))
    with torch.no_grad(), atomic_path(path) as draft:
        program = torch.export.export(
            graph, example, dynamic_shapes=({0: batch, 1: height, 2: width}, {0: batch}, {0: batch})
        )
        torch._inductor.aoti_compile_and_package(program, package_path=str(draft))
