# SPDX-License-Identifier: MIT
"""Hand detector in two stages, as Faster R-CNN (Ren et al. 2015): one proposes hands, the other looks at each again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from poseren_ext._utils.atomic_files import atomic_path
from poseren_ext.models.files import write_tensors
from poseren_ext.models.hand_proposals import ProposalNetwork
from poseren_ext.models.hand_verifier import HandVerifier

BUNDLED_DETECTOR = Path(__file__).parents[1] / "weights" / "detector.safetensors"
"""Weights of the detector that `find_hands` uses; its model card is beside it."""
_FORMAT = "poseren_ext_detector_4"
_SCALE = "_scale"  # end of the names of the scales of int8 weights
_LARGEST = 127


class HandDetector(nn.Module):
    """Both networks; `poseren_ext.inference.learnt_detection` runs them.

    Args:
        proposals: the first stage, which sees the whole frame, reduced.
        verifier: the second stage, which sees the surroundings of each proposal.
    """

    def __init__(self, proposals: ProposalNetwork, verifier: HandVerifier) -> None:
        super().__init__()
        self.proposals = proposals
        self.verifier = verifier


def save_detector(model: HandDetector, path: str | os.PathLike[str]) -> None:
    """Write a detector to one safetensors file: weights as int8 with a scale per output channel, biases as float16."""
    tensors = {}
    for name, tensor in model.state_dict().items():
        if tensor.dim() > 1:
            scale = (tensor.flatten(1).abs().amax(1) / _LARGEST).clamp(min=torch.finfo(torch.float32).tiny)
            tensors[name] = (tensor / _along(scale, tensor)).round().to(torch.int8)
            tensors[name + _SCALE] = scale
        else:
            tensors[name] = tensor.to(torch.float16)
    channels = {name: json.dumps(getattr(model, name).channels) for name in ("proposals", "verifier")}
    with atomic_path(Path(path)) as draft:
        write_tensors(draft, tensors, {"format": _FORMAT, **channels})


def load_detector(path: str | os.PathLike[str]) -> HandDetector:
    """Read a detector that :func:`save_detector` wrote, in float32 and evaluation mode.

    Raises:
        FileNotFoundError: The file does not exist.
        ValueError: The file is not a detector of this version, or it is damaged.
    """
    if not Path(path).is_file():
        raise FileNotFoundError(f"no detector file {path}; check the path")
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ValueError(f"its format is {metadata.get('format')!r}, expected {_FORMAT!r}")
            first, second = (tuple(json.loads(metadata[name])) for name in ("proposals", "verifier"))
            model = HandDetector(ProposalNetwork(first), HandVerifier(second))
            tensors = {name: file.get_tensor(name).float() for name in file.keys()}  # noqa: SIM118  # it is no mapping
            for name in [name for name in tensors if name.endswith(_SCALE)]:
                scale, weight = tensors.pop(name), tensors[name.removesuffix(_SCALE)]
                weight *= _along(scale, weight)
            model.load_state_dict(tensors)
    except (SafetensorError, RuntimeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} holds no hand detector for this version: {error}") from error
    return model.float().to(memory_format=torch.channels_last).requires_grad_(False).eval()  # type: ignore[call-overload, no-any-return]


def _along(scale: Tensor, weight: Tensor) -> Tensor:
    """Scales [N] of weights [N, ...], in the shape that multiplies these."""
    return scale.view(-1, *[1] * (weight.dim() - 1))
