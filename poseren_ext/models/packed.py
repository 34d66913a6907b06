# SPDX-License-Identifier: MIT
"""Pose-REN as it runs fastest: weights in the form that they are read in, made once and never trained."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseren_ext.models.network import Backbone, PoseREN
from poseren_ext.ops import cascade_refine, pack_head, run_grid
from poseren_ext.ops.cascade import WeightType

_POOLINGS_BEFORE = {"conv0": 0, "conv1": 0, "conv2_0": 1, "conv2": 1, "conv3": 1, "conv3_0": 2, "conv4": 2, "conv5": 2}


class PackedPoseREN:
    """Both networks of a :class:`PoseREN`, without gradients and dropout. It holds no weight twice.

    Args:
        model: whose weights they are. In float32 its fully connected layers are shared, otherwise they are copied and
            the model is not needed any more.
        dtype: of the fully connected layers' weights: "float32", "bfloat16" or "int8". Sums are float32, and so are the
            convolutions, which take a thousandth of the memory.

    Raises:
        ValueError: an unknown type, or weights that are NaN or infinite.
    """

    def __init__(self, model: PoseREN, dtype: WeightType = "float32") -> None:
        self.config = model.config
        self.skeleton = model.skeleton
        self.mean_pose = model.mean_pose.detach()
        self.init_backbone = pack_backbone(model.init.backbone, model.config.image_size)
        self.init_head = pack_head(model.init.head, dtype)
        self.backbone = pack_backbone(model.backbone, model.config.image_size)
        self.head = pack_head(model.head, dtype)
        convolutions = [*model.init.backbone.parameters(), *model.backbone.parameters()]
        self.nbytes: int = self.init_head.nbytes + self.head.nbytes + sum(weight.nbytes for weight in convolutions)
        """Memory that the weights take."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.head.region_weight.device

    def initial(self, crop: Tensor) -> Tensor:
        """The Init-CNN's pose [B, J, 3] of depth crops [B, 1, S, S] (paper, section 3.1)."""
        return run_grid(self.init_backbone(crop), self.init_head)

    def refine(self, crop: Tensor, pose: Tensor, stages: int) -> tuple[Tensor, Tensor]:
        """The cascade from a pose [B, J, 3], as :func:`cascade_refine` returns it: all poses and the stages run."""
        features = self.backbone(crop)
        if not self.head.config.grid:
            poses, run = cascade_refine(features, pose, self.head, stages=stages)
            return poses, run
        # A grid looks at no pose: every stage gives the same.
        poses = torch.stack([pose] + [run_grid(features, self.head)] * stages)
        return poses, torch.full((len(pose),), min(stages, 1), dtype=torch.int32, device=pose.device)


def pack_backbone(backbone: Backbone, image_size: int) -> Callable[[Tensor], Tensor]:
    """A backbone as a function of crops [B, 1, S, S], without gradients: on the CPU with oneDNN's own weight layout.

    Elsewhere, or where this torch has no oneDNN, the backbone itself.
    """
    on_cpu = backbone.conv0.weight.device.type == "cpu" and backbone.conv0.weight.dtype == torch.float32
    if not (on_cpu and torch.backends.mkldnn.is_available()):  # type: ignore[no-untyped-call]
        return backbone
    try:
        packed = _PackedBackbone(backbone, image_size)
        packed(torch.zeros(1, 1, image_size, image_size))
    except (AttributeError, RuntimeError):  # torch's ops for its own compiler: a release may lack or change them
        return backbone
    return packed


_Layer: TypeAlias = tuple[Tensor, Tensor | None, list[int], int]
"""Weight, bias, padding, and the side of the map that the layer sees."""


class _PackedBackbone:
    """Convolutions that add their bias, ReLU and the shortcut before anything goes to memory."""

    def __init__(self, backbone: Backbone, image_size: int) -> None:
        layers: dict[str, _Layer] = {}
        for name, poolings in _POOLINGS_BEFORE.items():
            layer: nn.Conv2d = getattr(backbone, name)
            bias = layer.bias if layer.bias is None else layer.bias.detach()
            layers[name] = (layer.weight.detach(), bias, [*layer.padding], image_size >> poolings)
        self.__setstate__(layers)

    def __getstate__(self) -> dict[str, _Layer]:
        # oneDNN's own layout has no bytes to write; another process makes it anew.
        return {name: (weight.to_dense(), *rest) for name, (weight, *rest) in self._layers.items()}  # type: ignore[misc]

    def __setstate__(self, layers: dict[str, _Layer]) -> None:
        self._layers: dict[str, _Layer] = {}
        for name, (weight, bias, padding, side) in layers.items():
            packed = torch.ops.mkldnn._reorder_convolution_weight(
                weight, padding, (1, 1), (1, 1), 1, [1, weight.shape[1], side, side]
            )
            self._layers[name] = (packed, bias, padding, side)

    @torch.no_grad()
    def __call__(self, crop: Tensor) -> Tensor:
        """Features [B, C, S/8, S/8], channels last. ReLU goes before the pooling: it does not change the order."""
        x = crop.contiguous(memory_format=torch.channels_last)
        x = F.max_pool2d(self._convolve("conv1", self._convolve("conv0", x)), 2)
        for before, first, second in (("conv2_0", "conv2", "conv3"), ("conv3_0", "conv4", "conv5")):
            shortcut = self._convolve(before, x)
            x = F.max_pool2d(self._convolve(second, self._convolve(first, shortcut), shortcut), 2)
        return x

    def _convolve(self, name: str, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """ReLU of a layer's convolution, plus the shortcut."""
        weight, bias, padding, _ = self._layers[name]
        geometry = (padding, [1, 1], [1, 1], 1)
        if shortcut is None:
            y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *geometry, "relu", [], "")
        else:
            y = torch.ops.mkldnn._convolution_pointwise.binary(
                x, shortcut, weight, bias, *geometry, "add", 1.0, "relu", [], ""
            )
        return y
