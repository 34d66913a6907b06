# SPDX-License-Identifier: MIT
"""Pose-REN for inference: weights packed in the layout that the kernels read."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from poseren_ext.models.network import Backbone, PoseREN
from poseren_ext.ops import cascade_refine, pack_head, run_grid
from poseren_ext.ops.cascade import WeightType

_POOLINGS_BEFORE = {"conv0": 0, "conv1": 0, "conv2_0": 1, "conv2": 1, "conv3": 1, "conv3_0": 2, "conv4": 2, "conv5": 2}

CONFIDENT_MM = 16.0
"""Of several models the first alone computes a crop of which it expects at most this mean joint error, mm. On the test
splits it does so for 90 % of palms and for 9 % of the rest."""


class PackedPoseREN:
    """Both networks of a :class:`PoseREN`, without gradients and dropout. No weight is stored twice.

    Args:
        model: model with the weights. In float32 its fully connected layers are shared; otherwise they are copied, and
            the model is not needed afterwards.
        dtype: type of the weights of the fully connected layers: "float32", "bfloat16" or "int8". Sums and convolutions
            are float32; the latter take a thousandth of the memory.

    Raises:
        ValueError: dtype is unknown, or weights are NaN or infinite.
    """

    def __init__(self, model: PoseREN, dtype: WeightType = "float32") -> None:
        self.config = model.config
        self.skeleton = model.skeleton
        self.mean_pose = model.mean_pose.detach()
        self.init_backbone = pack_backbone(model.init.backbone, model.config.image_size)
        self.init_head = pack_head(model.init.head, dtype)
        self.backbone = pack_backbone(model.backbone, model.config.image_size)
        self.head = pack_head(model.head, dtype)
        self.error = None if model.error is None else copy.deepcopy(model.error).eval().requires_grad_(False)
        others = [part for part in (model.init.backbone, model.backbone, model.error) if part is not None]
        others_bytes = sum(weight.nbytes for part in others for weight in part.parameters())
        self.nbytes: int = self.init_head.nbytes + self.head.nbytes + others_bytes
        """Memory of the weights, bytes."""

    @property
    def device(self) -> torch.device:
        """Device of the weights."""
        return self.head.region_weight.device

    def initial(self, crop: Tensor) -> Tensor:
        """The Init-CNN's pose [B, J, 3] of depth crops [B, 1, S, S] (paper, section 3.1)."""
        return run_grid(self.init_backbone(crop), self.init_head)

    def refine(self, crop: Tensor, pose: Tensor | None, stages: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """The cascade as :func:`cascade_refine` returns it: all poses and the stages run; then the predicted errors.

        Args:
            crop: [B, 1, S, S].
            pose: normalised [B, J, 3]; None for the Init-CNN's.
            stages: T.

        Returns:
            Normalised poses [T+1, B, J, 3]; stages run, int32 [B]; predicted mean joint errors in mm [B], None if the
            model has no error head.
        """
        pose, features = self._look(crop) if pose is None else (pose, self.backbone(crop))
        if self.head.config.grid:  # it does not depend on the pose: all stages give the same pose
            poses = torch.stack([pose] + [run_grid(features, self.head)] * stages)
            run = torch.full((len(pose),), min(stages, 1), dtype=torch.int32, device=pose.device)
        else:
            poses, run = cascade_refine(features, pose, self.head, stages=stages)
        return poses, run, None if self.error is None else self.error(crop, features, poses[0], poses[-1])

    def _look(self, crop: Tensor) -> tuple[Tensor, Tensor]:
        """The pose of the Init-CNN and the features of the refining backbone; concurrent within a CUDA graph.

        Outside of a CUDA graph concurrency has no benefit, because launching the kernels from Python is the limit.
        """
        if crop.device.type != "cuda" or not torch.cuda.is_current_stream_capturing():
            return self.initial(crop), self.backbone(crop)
        here, aside = torch.cuda.current_stream(), torch.cuda.Stream()  # type: ignore[no-untyped-call]
        aside.wait_stream(here)
        with torch.cuda.stream(aside):
            features = self.backbone(crop)
        pose = self.initial(crop)
        here.wait_stream(aside)
        return pose, features


class PackedChoice(PackedPoseREN):
    """Several packed models of one hand and skeleton: each crop has the pose with the least predicted error.

    The models after the first compute only the crops of which the first expects more than `CONFIDENT_MM`, except within
    a CUDA graph, whose shapes are fixed; the poses are the same.

    Args:
        models: the models, with error heads.
    """

    def __init__(self, models: Sequence[PackedPoseREN]) -> None:
        self._models = models
        self.config, self.skeleton, self.mean_pose = models[0].config, models[0].skeleton, models[0].mean_pose
        self.head = models[0].head
        self.nbytes = sum(model.nbytes for model in models)

    def initial(self, crop: Tensor) -> Tensor:
        """The initial pose [B, J, 3] of the model that is chosen by the predicted errors of the initial poses."""
        return self.refine(crop, None, 0)[0][0]

    def refine(self, crop: Tensor, pose: Tensor | None, stages: int) -> tuple[Tensor, Tensor, Tensor | None]:
        """All poses, the stages run and the predicted errors, as those of one model."""
        poses, run, error = self._models[0].refine(crop, pose, stages)
        assert error is not None
        doubtful = error > CONFIDENT_MM
        captured = crop.is_cuda and torch.cuda.is_current_stream_capturing()
        rows = torch.arange(len(crop), device=crop.device) if captured else doubtful.nonzero()[:, 0]
        for model in self._models[1:] if len(rows) else ():
            others, run_others, errors = model.refine(crop[rows], None if pose is None else pose[rows], stages)
            assert errors is not None
            better = doubtful[rows] & (errors < error[rows])
            poses[:, rows] = torch.where(better[:, None, None], others, poses[:, rows])
            run[rows] = torch.where(better, run_others, run[rows])
            error[rows] = torch.where(better, errors, error[rows])
        return poses, run, error


def pack_backbone(backbone: Backbone, image_size: int) -> Callable[[Tensor], Tensor]:
    """A backbone as a function of crops [B, 1, S, S], without gradients, with fused convolutions if available.

    These are oneDNN's with its packed weight layout on the CPU, and cuDNN's on a GPU. If this torch has neither, the
    backbone itself is returned.
    """
    weight = backbone.conv0.weight
    libraries: dict[str, tuple[type[_FusedBackbone], Any]] = {
        "cpu": (_OneDnn, torch.backends.mkldnn),
        "cuda": (_CuDnn, torch.backends.cudnn),
    }
    library, found = libraries.get(weight.device.type, (_FusedBackbone, None))
    if weight.dtype not in (torch.float32, torch.bfloat16) or found is None or not found.is_available():
        return backbone
    try:
        packed = library(backbone, image_size)
        packed(torch.zeros(1, 1, image_size, image_size, device=weight.device, dtype=weight.dtype))
    except (AttributeError, RuntimeError):  # internal ops of torch: a release may lack or change them
        return backbone
    return packed


_Layer: TypeAlias = tuple[Tensor, Tensor | None, list[int], int]
"""Weight, bias, padding, and side of the layer's input."""


class _FusedBackbone:
    """Convolutions with fused bias, ReLU and shortcut."""

    def __init__(self, backbone: Backbone, image_size: int) -> None:
        layers: dict[str, _Layer] = {}
        for name, poolings in _POOLINGS_BEFORE.items():
            layer: nn.Conv2d = getattr(backbone, name)
            bias = layer.bias if layer.bias is None else layer.bias.detach()
            layers[name] = (layer.weight.detach(), bias, [*layer.padding], image_size >> poolings)
        self.__setstate__(layers)

    def __getstate__(self) -> dict[str, _Layer]:
        return self._layers

    def __setstate__(self, layers: dict[str, _Layer]) -> None:
        self._layers = layers

    @torch.no_grad()
    def __call__(self, crop: Tensor) -> Tensor:
        """Features [B, C, S/8, S/8], channels last. ReLU is applied before max pooling, which commutes with it."""
        x = crop.contiguous(memory_format=torch.channels_last)
        x = self._pool(self._convolve("conv1", self._convolve("conv0", x)))
        for before, first, second in (("conv2_0", "conv2", "conv3"), ("conv3_0", "conv4", "conv5")):
            shortcut = self._convolve(before, x)
            x = self._pool(self._convolve(second, self._convolve(first, shortcut), shortcut))
        return x

    def _pool(self, x: Tensor) -> Tensor:
        return F.max_pool2d(x, 2)

    @abstractmethod
    def _convolve(self, name: str, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        """ReLU of the convolution of a layer, plus the shortcut."""


class _OneDnn(_FusedBackbone):
    def __getstate__(self) -> dict[str, _Layer]:
        # The layout of oneDNN cannot be serialised, so another process packs the weights again.
        return {name: (weight.to_dense(), *rest) for name, (weight, *rest) in self._layers.items()}  # type: ignore[misc]

    def __setstate__(self, layers: dict[str, _Layer]) -> None:
        self._layers = {}
        for name, (weight, bias, padding, side) in layers.items():
            packed = torch.ops.mkldnn._reorder_convolution_weight(
                weight, padding, (1, 1), (1, 1), 1, [1, weight.shape[1], side, side]
            )
            self._layers[name] = (packed, bias, padding, side)

    def _convolve(self, name: str, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        weight, bias, padding, _ = self._layers[name]
        geometry = (padding, [1, 1], [1, 1], 1)
        if shortcut is None:
            y: Tensor = torch.ops.mkldnn._convolution_pointwise(x, weight, bias, *geometry, "relu", [], "")
        else:
            y = torch.ops.mkldnn._convolution_pointwise.binary(
                x, shortcut, weight, bias, *geometry, "add", 1.0, "relu", [], ""
            )
        return y


class _CuDnn(_FusedBackbone):
    def __setstate__(self, layers: dict[str, _Layer]) -> None:
        last = torch.channels_last
        self._layers = {name: (layer[0].contiguous(memory_format=last), *layer[1:]) for name, layer in layers.items()}

    def _convolve(self, name: str, x: Tensor, shortcut: Tensor | None = None) -> Tensor:
        weight, bias, padding, _ = self._layers[name]
        geometry = ([1, 1], padding, [1, 1], 1)
        if shortcut is None:
            return torch.cudnn_convolution_relu(x, weight, bias, *geometry)
        return torch.cudnn_convolution_add_relu(x, weight, shortcut, 1.0, bias, *geometry)

    def _pool(self, x: Tensor) -> Tensor:
        # Takes a third of the time of max_pool2d, which also computes the indices for channels last.
        rows = torch.maximum(x[:, :, ::2], x[:, :, 1::2])
        return torch.maximum(rows[..., ::2], rows[..., 1::2])
