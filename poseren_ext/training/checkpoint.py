# SPDX-License-Identifier: MIT
"""Checkpoints: one safetensors file, written atomically, with a checksum; the previous one is kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from poseren_ext._utils.atomic_files import atomic_path
from poseren_ext.models.files import write_tensors

_PREVIOUS = ".previous"


class CorruptCheckpointError(ValueError):
    """The file is truncated, altered, or not a checkpoint."""


@dataclass(frozen=True)
class Checkpoint:
    """Tensors by name, and the state of the training as JSON values."""

    tensors: Mapping[str, torch.Tensor]
    state: Mapping[str, Any]


def _digest(tensors: Mapping[str, torch.Tensor], state: str) -> str:
    total = hashlib.sha256(state.encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        total.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        total.update(tensor.view(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a draft next to `path`, syncs and renames it; an existing checkpoint becomes `<name>.previous`.

    Raises:
        OSError: The disk is full or not writable; the file at `path` stays unchanged.
    """
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in checkpoint.tensors.items()}
    state = json.dumps(checkpoint.state)
    try:
        with atomic_path(path, keep=path.with_name(path.name + _PREVIOUS)) as draft:
            write_tensors(draft, tensors, {"state": state, "sha256": _digest(tensors, state)})
    except OSError as error:
        raise OSError(f"cannot write checkpoint {path}: {error}; the last good one is untouched") from error


def _read(path: Path) -> Checkpoint:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no dict)
    except (SafetensorError, OSError) as error:
        raise CorruptCheckpointError(f"{path} cannot be read: {error}") from error
    if metadata.get("sha256") != _digest(tensors, metadata.get("state", "")):
        raise CorruptCheckpointError(f"{path} does not match its checksum")
    return Checkpoint(tensors, json.loads(metadata["state"]))


def existing_checkpoints(path: Path) -> list[Path]:
    """The checkpoint at `path` and the previous one, if they exist; between two renames there is no last one."""
    return [file for file in (path, path.with_name(path.name + _PREVIOUS)) if file.exists()]


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads `path`, or the previous checkpoint if `path` is corrupt or missing.

    Raises:
        FileNotFoundError: Neither file exists.
        CorruptCheckpointError: All existing checkpoints are corrupt.
    """
    candidates = existing_checkpoints(path)
    if not candidates:
        raise FileNotFoundError(f"no checkpoint at {path}; start the training without resuming")
    faults = []
    for candidate in candidates:
        try:
            return _read(candidate)
        except CorruptCheckpointError as error:
            faults.append(str(error))
    raise CorruptCheckpointError("; ".join(faults) + ": start a new training in another folder")
