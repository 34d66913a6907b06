# SPDX-License-Identifier: MIT
"""Model files: safetensors with the configuration inside (nothing is ever unpickled), by path or by name."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Literal, TypeAlias

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from poseren_ext._utils.atomic_files import atomic_path
from poseren_ext.models.config import ModelConfig, WeightDtype
from poseren_ext.models.network import PoseREN
from poseren_ext.models.packed import PackedPoseREN
from poseren_ext.models.quantization import fully_connected_weights, restored_rows, stored_forms, stored_rows

Precision: TypeAlias = Literal["float32", "bfloat16", "int8"]

BUNDLED: dict[str, Path] = {
    name: Path(__file__).parents[1] / "weights" / f"{name}.safetensors" for name in ("demo", "any_view")
}
"""Name -> file of compact Pose-RENs trained on synthetic hands. ``demo`` knows palms, ``any_view`` hands from every
side; their model cards are beside them (weights/NAME.md)."""

BOTH = "both"
"""Names all bundled models together: an Estimator chooses one of their poses by the predicted errors."""

WEIGHTS = "model.safetensors"
"""Name of the model file in the folder of a training run and in a repository of the Hugging Face Hub."""
_HUB_NAME = re.compile(r"\w[\w.-]*/\w[\w.-]*(@[\w./-]+)?(?<!\.safetensors)", re.ASCII)

FORMAT = "poseren_ext"
FORMAT_VERSION = "4"
READABLE_VERSIONS = ("1", "2", "3", "4")
"""Version 2 added weights as int8 rows, version 3 the error head, version 4 region weights as 4-bit rows."""
_CODES = {torch.float32: "F32", torch.float16: "F16", torch.int8: "I8", torch.uint8: "U8"}  # names in safetensors
_BITS: dict[WeightDtype, int] = {"int8": 8, "int4": 4}
_REMEDY = "Expected a file written by poseren_ext.models.save: download or save it again"


def save(model: PoseREN, path: str | os.PathLike[str]) -> None:
    """Write a model to one safetensors file, weights in the ``weight_dtype`` of its configuration.

    Weights that int8 or 4-bit rows would change, such as those of a bundled model after fine-tuning, are written in
    float32, and so says the file's configuration; :func:`round_to_bytes` and :func:`round_to_nibbles` round them.

    The file is written atomically: readers never see half of it, and a failed write leaves an older file unchanged.

    Args:
        model: the model.
        path: the file, by convention ``*.safetensors``; an existing one is replaced.

    Raises:
        FileNotFoundError: The folder does not exist.
        OSError: The disk is full or not writable.
        ValueError: A weight is not finite or too large for float16.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"cannot save {path}: there is no folder {path.parent}; create it first")
    config, state = model.config, model.state_dict()
    formats = _row_formats(model, config.weight_dtype)
    rows = {name: stored_rows(state[name].detach().cpu(), channels) for name, channels in formats.items()}
    if not all(rows.values()) or (config.weight_dtype == "int4" and not _has_half_convolutions(model)):
        config, rows = replace(config, weight_dtype="float32"), {}
    dtypes = _stored_dtypes(model, config.weight_dtype)
    tensors: dict[str, Tensor] = {}
    for name, tensor in state.items():
        stored = tensor.detach().cpu().to(dtypes[name])
        if not _is_finite(stored):
            raise ValueError(
                f"cannot save {path}: {name} holds values that are NaN or infinite as {stored.dtype}; a training that "
                "diverged gives such weights, and float16 ends at 65504"
            )
        parts = rows.get(name)
        tensors |= {name: stored} if parts is None else {_part(name, end): part for end, part in parts.items()}
    metadata = {"format": FORMAT, "format_version": FORMAT_VERSION, "config": config.to_json()}
    with atomic_path(path) as draft:
        write_tensors(draft, tensors, metadata)


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> None:
    """Write a safetensors file, not atomically: give the path of a draft (`atomic_path`).

    Raises:
        OSError: The disk is full or not writable.
    """
    try:
        save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, dict(metadata))
    except SafetensorError as error:  # it wraps the error of the operating system
        raise OSError(f"cannot write {path}: {error}; what was there is untouched") from error


def load(path: str | os.PathLike[str]) -> PoseREN:
    """Read a model that :func:`save` wrote, onto the CPU, in float32, in evaluation mode.

    Every tensor's name, shape and type is checked against the configuration before any of it is read.

    Args:
        path: the file.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is truncated or of another kind or version, or its weights do not fit its configuration or
            are not finite.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"no model file {path}; check the path")
    if not path.is_file():
        raise ValueError(f"{path} is not a file. {_REMEDY}")
    try:
        # With device "cpu" the file is memory-mapped, and each tensor is copied once.
        with safe_open(path, framework="pt", device="cpu") as file:
            config = _read_config(file.metadata())
            with torch.device("meta"):
                model = PoseREN.build(config)
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118 (no mapping: it cannot be iterated)
            shapes = {name: (part.get_shape(), part.get_dtype()) for name, part in slices.items()}
            _check_tensors(model, shapes)
            formats, tensors = _row_formats(model, config.weight_dtype), {}
            for name, tensor in model.state_dict().items():
                if name in formats:
                    ends = stored_forms(tensor.shape, formats[name])
                    parts = {end: file.get_tensor(_part(name, end)) for end in ends}
                    tensors[name] = restored_rows(parts, tensor.shape[-1])
                else:
                    tensors[name] = file.get_tensor(name).to(torch.float32, copy=True)
    except (SafetensorError, OverflowError, RuntimeError) as error:
        raise ValueError(f"{path} is not a readable safetensors file ({error}). {_REMEDY}") from error
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no model for this version: {error}. {_REMEDY}") from error
    for name, tensor in tensors.items():
        if not _is_finite(tensor):
            raise ValueError(f"{path}: {name} holds values that are NaN or infinite. {_REMEDY}")
    model.load_state_dict(tensors, assign=True)
    return model.requires_grad_().eval()


def load_model(model: PoseREN | str | os.PathLike[str]) -> PoseREN:
    """Loads a model by its name or path (see :func:`model_path`); a model is returned unchanged.

    Raises:
        TypeError: The argument is neither a name, nor a path, nor a model.
        ValueError: It is "both", which is two models.
        FileNotFoundError: There is no model of that name: bundled, in a file, or on the Hub.
        ValueError: The file does not contain a model of this package.
    """
    if isinstance(model, PoseREN):
        return model
    if not isinstance(model, str | os.PathLike):
        raise TypeError(
            f"model is of type {type(model).__name__}; expected a PoseREN, a path or one of {list(BUNDLED)}"
        )
    if model == BOTH:
        raise ValueError(f"model is {BOTH!r}: the two bundled ones, for Estimator only; name one of {list(BUNDLED)}")
    return load(model_path(model))


def model_path(model: str | os.PathLike[str]) -> Path:
    """The file of a model.

    Args:
        model: the name of a bundled model; a safetensors file; a folder with ``model.safetensors``, such as that of a
            training run; or ``user/name`` or ``user/name@revision`` on the Hugging Face Hub, which is downloaded to
            huggingface_hub's cache. Files and folders come before the Hub.

    Raises:
        FileNotFoundError: There is no such model.
        ModuleNotFoundError: A model of the Hub is named, and huggingface_hub is not installed.
    """
    path = Path(BUNDLED.get(str(model), model))
    if path.is_dir():
        path /= WEIGHTS
    elif isinstance(model, str) and not path.exists() and _HUB_NAME.fullmatch(model):
        from poseren_ext.models.hub import download

        return download(model)
    if not path.exists():
        raise FileNotFoundError(
            f"no model at {str(path)!r}; expected a safetensors file, a folder with {WEIGHTS}, user/name on the "
            f"Hugging Face Hub, or one of {list(BUNDLED)}"
        )
    return path


def packed_model(model: PoseREN | str | os.PathLike[str], precision: Precision) -> PackedPoseREN:
    """The packed form of a model; a file is packed once and shared by all estimators of it."""
    if not isinstance(model, str | os.PathLike):
        return PackedPoseREN(load_model(model), precision)
    path = model_path(model)
    return _pack_once(path, path.stat().st_mtime_ns, precision)


def _read_config(metadata: dict[str, str] | None) -> ModelConfig:
    """The configuration in a file's metadata, after its format and version."""
    metadata = metadata or {}
    if metadata.get("format") != FORMAT:
        raise ValueError(f"its format is {metadata.get('format')!r}, expected {FORMAT!r}")
    if metadata.get("format_version") not in READABLE_VERSIONS:
        raise ValueError(
            f"its format_version is {metadata.get('format_version')!r}, expected one of "
            f"{', '.join(READABLE_VERSIONS)}; a newer poseren_ext may be needed"
        )
    if "config" not in metadata:
        raise ValueError("it has no configuration")
    return ModelConfig.from_json(metadata["config"])


def _check_tensors(model: PoseREN, found: dict[str, tuple[list[int], str]]) -> None:
    """Checks that a file holds every tensor that the model needs, of the right shape and stored type, and no other."""
    formats = _row_formats(model, model.config.weight_dtype)
    dtypes = _stored_dtypes(model, model.config.weight_dtype)
    expected: dict[str, tuple[list[int], str]] = {}
    for name, tensor in model.state_dict().items():
        forms = {"": (list(tensor.shape), dtypes[name])}
        if name in formats:
            forms = stored_forms(tensor.shape, formats[name])
        expected |= {_part(name, end): (shape, _CODES[dtype]) for end, (shape, dtype) in forms.items()}
    faults = [f"tensor {name} is missing" for name in expected if name not in found]
    faults += [f"tensor {name} is unexpected" for name in found if name not in expected]
    faults += [
        f"tensor {name} is {found[name]}, expected {expected[name]}"
        for name in expected
        if name in found and found[name] != expected[name]
    ]
    if faults:
        raise ValueError("; ".join(faults[:3]) + (f" and {len(faults) - 3} more faults" if len(faults) > 3 else ""))


def _stored_dtypes(model: PoseREN, weight_dtype: WeightDtype) -> dict[str, torch.dtype]:
    """The type of each tensor in a file with weights of this type, apart from rows of integers.

    The mean pose (3J numbers) is always float32. The weights of an error head in a file with such rows are float16, and
    those of convolutions beside 4-bit rows.
    """
    dtypes = dict.fromkeys(model.state_dict(), torch.float32)
    if weight_dtype == "float16":
        dtypes |= {name: torch.float16 for name, _ in model.named_parameters()}
    if weight_dtype == "int4":
        dtypes |= {name: torch.float16 for name, part in model.named_parameters() if part.dim() == 4}
    if weight_dtype in _BITS:
        dtypes |= {name: torch.float16 for name in dtypes if name.startswith("error.")}
    return dtypes


def _has_half_convolutions(model: PoseREN) -> bool:
    parts = (part for name, part in model.named_parameters() if part.dim() == 4 and not name.startswith("error."))
    return all(bool((part == part.half()).all()) for part in parts)


def _row_formats(model: PoseREN, weight_dtype: WeightDtype) -> dict[str, int]:
    """Name of each weight in rows of integers -> channels of 4-bit rows, 0 for int8 rows."""
    return fully_connected_weights(model, _BITS[weight_dtype]) if weight_dtype in _BITS else {}


def _part(name: str, end: str) -> str:
    """Name in the file of a part of a weight: "head.region_weight" and "scale" give "head.region_scale"."""
    return name.removesuffix("weight") + end if end else name


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor).all())


@lru_cache(maxsize=4)
def _pack_once(path: Path, modified: int, precision: Precision) -> PackedPoseREN:
    return PackedPoseREN(load(path), precision)
