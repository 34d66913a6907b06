# SPDX-License-Identifier: MIT
"""The networks of the hand detector in ONNX Runtime, which computes them two to three times as fast as PyTorch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from poseren_ext._utils.optional_libraries import import_library
from poseren_ext.models.detector import BUNDLED_DETECTOR, HandDetector
from poseren_ext.models.hand_verifier import Verdict


class OnnxDetector:
    """A hand detector on one thread of a CPU; called as :class:`HandDetector` is, with the same results to 0.001 mm.

    The files of the graphs, ``detector_*.onnx``, are written by ``python -m tools.detector.graphs``. They hold no
    weights: those of the detector are used.

    Args:
        detector: with the number of channels of the bundled one.

    Raises:
        ModuleNotFoundError: onnxruntime is not installed.
    """

    def __init__(self, detector: HandDetector) -> None:
        self._proposals = _Session(detector.proposals, "proposals")
        self._verifier = _Session(detector.verifier, "verifier")

    def proposals(self, depth: Tensor, focal: Tensor) -> Tensor:
        """What :class:`ProposalNetwork` computes."""
        (maps,) = self._proposals(depth=depth, focal=focal)
        return maps

    def verifier(self, crops: Tensor, pitch: Tensor) -> Verdict:
        """What :class:`HandVerifier` computes."""
        return Verdict(*self._verifier(crops=crops, pitch=pitch))


class _Session:
    """One network.

    With one thread, ONNX Runtime starts none of its own, which would compete with those of PyTorch.
    """

    def __init__(self, network: nn.Module, name: str) -> None:
        runtime: Any = import_library("onnxruntime", "onnx", "ONNX graphs")
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        self._weights = {key: np.ascontiguousarray(value.numpy()) for key, value in network.state_dict().items()}
        values = [runtime.OrtValue.ortvalue_from_numpy(value) for value in self._weights.values()]  # not copied
        options.add_external_initializers(list(self._weights), values)
        graph = graph_file(name).read_bytes()
        self._session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])

    def __call__(self, **inputs: Tensor) -> list[Tensor]:
        outputs = self._session.run(None, {name: value.contiguous().numpy() for name, value in inputs.items()})
        return [torch.from_numpy(value) for value in outputs]


def graph_file(name: str) -> Path:
    """The file of the graph of a network, "proposals" or "verifier"."""
    return BUNDLED_DETECTOR.with_name(f"detector_{name}.onnx")
