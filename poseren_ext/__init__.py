# SPDX-License-Identifier: MIT
"""Pose-REN: cascaded 3D hand pose estimation from one depth image."""

import importlib
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from poseren_ext import ops
    from poseren_ext.geometry.camera import CAMERAS, Camera, uvd_to_xyz, xyz_to_uvd
    from poseren_ext.geometry.skeleton import SKELETONS, Skeleton
    from poseren_ext.inference.captured_estimator import CapturedEstimator
    from poseren_ext.inference.errors import HandDistanceError, NoHandError
    from poseren_ext.inference.estimator import Estimator
    from poseren_ext.inference.frame_hands import FrameHands
    from poseren_ext.inference.hand_detection import HandDetection, find_hands
    from poseren_ext.inference.hand_pose import HandPose
    from poseren_ext.inference.refinement import refine
    from poseren_ext.models import HeadConfig, ModelConfig, PoseREN, load, load_model, save

__all__ = [
    "CAMERAS",
    "SKELETONS",
    "Camera",
    "CapturedEstimator",
    "Estimator",
    "FrameHands",
    "HandDetection",
    "HandDistanceError",
    "HandPose",
    "HeadConfig",
    "ModelConfig",
    "NoHandError",
    "PoseREN",
    "Skeleton",
    "find_hands",
    "load",
    "load_model",
    "ops",
    "refine",
    "save",
    "uvd_to_xyz",
    "xyz_to_uvd",
]

__version__ = "0.2.0"

NEEDS_TORCH = "poseren_ext needs PyTorch 2.11 or newer: pip install torch (for CPU or CUDA as pytorch.org says)"

_HOMES = {
    "geometry.camera": ("CAMERAS", "Camera", "uvd_to_xyz", "xyz_to_uvd"),
    "inference.captured_estimator": ("CapturedEstimator",),
    "models": ("HeadConfig", "ModelConfig", "PoseREN", "load", "load_model", "save"),
    "inference.errors": ("HandDistanceError", "NoHandError"),
    "inference.estimator": ("Estimator",),
    "inference.frame_hands": ("FrameHands",),
    "inference.refinement": ("refine",),
    "inference.hand_pose": ("HandPose",),
    "inference.hand_detection": ("HandDetection", "find_hands"),
    "geometry.skeleton": ("SKELETONS", "Skeleton"),
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


def _is_console_script() -> bool:
    """Whether this process runs the installed ``poseren`` command or ``python -m poseren_ext``."""
    if getattr(sys, "orig_argv", [])[1:3] == ["-m", "poseren_ext"]:
        return True
    script = Path(sys.argv[0] if sys.argv else "").resolve()
    schemes = sysconfig.get_scheme_names()
    return script.stem == "poseren" and script.parent in {
        Path(sysconfig.get_path("scripts", s)).resolve() for s in schemes
    }


# Importing the package registers the ops, as with other torch extensions. The command line imports torch only when a
# command needs it, because torch takes seconds and --help must be instant.
if not _is_console_script():
    for _name in __all__:
        _import(_name)
