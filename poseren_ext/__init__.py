# SPDX-License-Identifier: MIT
"""Pose-REN: cascaded 3D hand pose estimation from one depth image."""

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poseren_ext import ops
    from poseren_ext.camera import CAMERAS, Camera, uvd_to_xyz, xyz_to_uvd
    from poseren_ext.captured import CapturedEstimator
    from poseren_ext.models import HeadConfig, ModelConfig, PoseREN, load, save
    from poseren_ext.named_models import load_model
    from poseren_ext.refine import Estimator, HandPose, refine
    from poseren_ext.skeleton import SKELETONS, Skeleton

__all__ = [
    "CAMERAS",
    "SKELETONS",
    "Camera",
    "CapturedEstimator",
    "Estimator",
    "HandPose",
    "HeadConfig",
    "ModelConfig",
    "PoseREN",
    "Skeleton",
    "load",
    "load_model",
    "ops",
    "refine",
    "save",
    "uvd_to_xyz",
    "xyz_to_uvd",
]

__version__ = "0.1.0"

NEEDS_TORCH = "poseren_ext needs PyTorch 2.11 or newer: pip install torch (for CPU or CUDA as pytorch.org says)"

_HOMES = {
    "camera": ("CAMERAS", "Camera", "uvd_to_xyz", "xyz_to_uvd"),
    "captured": ("CapturedEstimator",),
    "models": ("HeadConfig", "ModelConfig", "PoseREN", "load", "save"),
    "named_models": ("load_model",),
    "refine": ("Estimator", "HandPose", "refine"),
    "skeleton": ("SKELETONS", "Skeleton"),
}


def _import(name: str) -> Any:
    """Bring a public name here; whichever comes first registers torch.ops.poseren."""
    try:
        ops = importlib.import_module("poseren_ext.ops")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        raise ModuleNotFoundError(NEEDS_TORCH, name="torch") from None
    if name == "ops":
        return ops
    home = next(module for module, names in _HOMES.items() if name in names)
    globals()[name] = getattr(importlib.import_module(f"poseren_ext.{home}"), name)
    return globals()[name]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return _import(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# As with other extensions of torch, the import alone registers the ops. Only the console script waits until a command
# needs them: its --help and completion are to be instant, and torch takes seconds.
if Path(sys.argv[0] if sys.argv else "").stem != "poseren":
    for _name in __all__:
        _import(_name)
