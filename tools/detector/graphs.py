# SPDX-License-Identifier: MIT
"""Writes the detector's networks as ONNX graphs without weights, which `OnnxDetector` reads.

python -m tools.detector.graphs
"""

from __future__ import annotations

from typing import Any

import onnx
import torch
from torch import nn
from torch.export import Dim

from poseren_ext._utils.atomic_files import atomic_path
from poseren_ext.inference.onnx_detector import graph_file
from poseren_ext.models.detector import BUNDLED_DETECTOR, load_detector
from poseren_ext.models.hand_verifier import SIZE


def graph(network: nn.Module, examples: tuple[torch.Tensor, ...], sizes: tuple[dict[int, Any], ...]) -> onnx.ModelProto:
    """The graph of a network; instead of its weights it has external initializers of their names.

    Args:
        network: the network.
        examples: inputs.
        sizes: of each input, the axes that may have other sizes.
    """
    program = torch.onnx.export(network, examples, dynamo=True, dynamic_shapes=sizes)
    assert program is not None
    model, weights = program.model_proto, network.state_dict()
    for value in model.graph.initializer:
        if value.name in weights:
            del weights[value.name]
            value.ClearField("raw_data")
            value.data_location = onnx.TensorProto.EXTERNAL
            value.external_data.add(key="location", value="OnnxDetector")
    assert not weights
    for part in (model.graph, *model.graph.node, *model.graph.input, *model.graph.output, *model.graph.initializer):
        part.ClearField("doc_string")
        part.ClearField("metadata_props")  # among them the lines of Python that each node comes from
    model.graph.ClearField("value_info")
    return model


def main() -> None:
    """Writes both files."""
    detector = load_detector(BUNDLED_DETECTOR).to(memory_format=torch.contiguous_format)
    height, width, crops = Dim("height", min=1), Dim("width", min=1), Dim("crops")
    frame, focal = torch.rand(1, 96, 160), torch.ones(1)
    pairs, pitch = torch.rand(6, 2, SIZE, SIZE), torch.ones(6)
    for name, model in (
        # The sizes are those of `padded`.
        ("proposals", graph(detector.proposals, (frame, focal), ({1: 16 * height, 2: 16 * width}, {}))),
        ("verifier", graph(detector.verifier, (pairs, pitch), ({0: crops}, {0: crops}))),
    ):
        with atomic_path(graph_file(name)) as draft:
            draft.write_bytes(model.SerializeToString(deterministic=True))


if __name__ == "__main__":
    main()
