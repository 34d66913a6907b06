# SPDX-License-Identifier: MIT
"""The released Caffe networks: their layers, and how these become the models of this package.

The released system of a dataset is two files: ``<dataset>_baseline.caffemodel``, the Init-CNN, and
``<dataset>_pose_ren.caffemodel``, the refining network. The latter names the layers of a region after the guided joint,
in the network's own joint order; everything here comes out in the dataset's public order.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from poseren_ext.geometry.skeleton import SKELETONS, Skeleton
from poseren_ext.models import Backbone, HeadConfig, InitCNN, PoseREN, RegionEnsemble
from poseren_ext.models.caffe.wire import Layer, read_layers

Targets: TypeAlias = Mapping[str, tuple[Tensor, Tensor]]
"""For each layer where its weight and its bias go."""

# Names of REN's regions in the order in which the last layer joins them -> our region (`HeadConfig.ren_9x6x6`).
_REN_FOUR = {"1_1": 0, "1_2": 1, "2_1": 2, "2_2": 3}
_REN_NINE = {**_REN_FOUR, "3_1": 5, "3_2": 6, "4_1": 4, "4_2": 7, "c1": 8}
_REN_FIRST = "fc1_1_1"

WIDTHS = (2048, 2048)
CHANNELS = (16, 32, 64)


@dataclass(frozen=True)
class ReleasedOrder:
    """The orders of one dataset's released networks.

    Attributes:
        skeleton: the dataset's joints.
        own: for each joint of the public order its index in the networks' own order.
        fingers: for each of the layers fc2_0 to fc2_4 its finger, an index into the skeleton's.
    """

    skeleton: Skeleton
    own: tuple[int, ...]
    fingers: tuple[int, ...] = (0, 1, 2, 3, 4)


DATASETS: dict[str, ReleasedOrder] = {
    "nyu": ReleasedOrder(SKELETONS["nyu14"], (6, 7, 8, 9, 10, 11, 12, 13, 3, 4, 5, 1, 2, 0)),
    "icvl": ReleasedOrder(SKELETONS["icvl16"], tuple(range(16))),
    "msra": ReleasedOrder(SKELETONS["msra21"], tuple(range(21)), fingers=(1, 2, 3, 4, 0)),  # the thumb comes last
    "hands17": ReleasedOrder(SKELETONS["hands17"], tuple(range(21))),
}
"""The datasets that weights were released for."""


def import_caffe(
    path: str | os.PathLike[str],
    dataset: str,
    *,
    init: str | os.PathLike[str] | None = None,
    widths: tuple[int, int] = WIDTHS,
    channels: tuple[int, int, int] = CHANNELS,
) -> PoseREN:
    """The released estimator of a dataset: Init-CNN and refining network, or a region ensemble network (REN).

    A REN refines no pose: the model gives REN's pose as the initial pose, and every stage repeats it.

    Args:
        path: the refining network, ``<dataset>_pose_ren*.caffemodel``, or REN-4x6x6 or REN-9x6x6,
            ``model_<dataset>_ren_*.caffemodel``; the layers tell which it is.
        dataset: "nyu", "icvl", "msra" or "hands17".
        init: the Init-CNN, ``<dataset>_baseline*.caffemodel``, or a REN; by default the file beside ``path`` whose name
            says ``baseline`` in place of ``pose_ren``. Not used with a REN. The Init-CNNs of msra and hands17 have
            equal shapes: no check can tell a mix-up of these two.
        widths: outputs of the fully connected layers.
        channels: of the backbone.

    Returns:
        The model on the CPU, in evaluation mode, joints in the public order; ``poseren_ext.models.save`` writes it.

    Raises:
        FileNotFoundError: The file does not exist, or there is no Init-CNN beside it.
        ModuleNotFoundError: The protobuf library is not installed.
        ValueError: The dataset is unknown, the file is not a Caffe model, a layer is missing, unknown or of another
            shape, or values are not finite.
    """
    skeleton = _order(dataset).skeleton
    if is_ren(path):
        ren = read_ren(path, dataset, widths=widths, channels=channels)
        again = deepcopy(ren)  # files hold every tensor of both networks
        return PoseREN(ren, again.backbone, again.head, skeleton).eval()
    init = _init_beside(Path(path)) if init is None else init
    backbone, head = read_refiner(path, dataset, widths=widths, channels=channels)
    read = read_ren if is_ren(init) else read_init_cnn
    return PoseREN(read(init, dataset, widths=widths, channels=channels), backbone, head, skeleton).eval()


def is_ren(path: str | os.PathLike[str]) -> bool:
    """Whether a file has the layers of a region ensemble network; raises as :func:`read_layers` does."""
    return any(layer.name == _REN_FIRST and layer.blobs for layer in read_layers(path))


def read_ren(
    path: str | os.PathLike[str],
    dataset: str,
    *,
    widths: tuple[int, int] = WIDTHS,
    channels: tuple[int, int, int] = CHANNELS,
) -> InitCNN:
    """REN-4x6x6 or REN-9x6x6 as a network that gives an initial pose; arguments and errors as `import_caffe`'s.

    The authors' script for these networks scales crop rows and y by fy, this package by fx, which differs by up to
    0.2 % on NYU.
    """
    order = _order(dataset)
    names = {layer.name for layer in read_layers(path) if layer.blobs}
    nine = "fc1_c1" in names
    make, regions = (HeadConfig.ren_9x6x6, _REN_NINE) if nine else (HeadConfig.ren_4x6x6, _REN_FOUR)
    backbone, head = _empty(make(order.skeleton, widths=widths, channels=channels[-1]), channels)
    targets = {
        **_convolutions(backbone),
        **{f"fc1_{name}": (head.region_weight[r], head.region_bias[r]) for name, r in regions.items()},
        **{f"fc2_{name}": (head.finger_weight[r], head.finger_bias[r]) for name, r in regions.items()},
        "fc_concat": (head.pose_weight, head.pose_bias),
    }
    with torch.no_grad():
        _fill(Path(path), f"REN-{9 if nine else 4}x6x6 of {dataset}", targets)
        _to_public_order(head, order.own, tuple(regions.values()))
    return InitCNN(backbone, head).eval()


def read_init_cnn(
    path: str | os.PathLike[str],
    dataset: str,
    *,
    widths: tuple[int, int] = WIDTHS,
    channels: tuple[int, int, int] = CHANNELS,
) -> InitCNN:
    """The Init-CNN of ``<dataset>_baseline*.caffemodel``: arguments and errors as for :func:`import_caffe`."""
    order = _order(dataset)
    config = HeadConfig.init_cnn(order.skeleton, widths=widths, channels=channels[-1])
    backbone, head = _empty(config, channels)
    targets = {
        **_convolutions(backbone),
        "fc1": (head.region_weight[0], head.region_bias[0]),
        "fc2": (head.finger_weight[0], head.finger_bias[0]),
        "fc3": (head.pose_weight, head.pose_bias),
    }
    with torch.no_grad():
        _fill(Path(path), f"the Init-CNN of {dataset}", targets)
        _to_public_order(head, order.own, (0,))
    return InitCNN(backbone, head).eval()


def read_refiner(
    path: str | os.PathLike[str],
    dataset: str,
    *,
    widths: tuple[int, int] = WIDTHS,
    channels: tuple[int, int, int] = CHANNELS,
) -> tuple[Backbone, RegionEnsemble]:
    """Backbone and head of ``<dataset>_pose_ren*.caffemodel``: arguments and errors as for :func:`import_caffe`."""
    order = _order(dataset)
    config = HeadConfig.pose_ren(order.skeleton, widths=widths, channels=channels[-1])
    backbone, head = _empty(config, channels)
    targets = {
        **_convolutions(backbone),
        **{
            f"fc1_{order.own[joint]}": (head.region_weight[region], head.region_bias[region])
            for region, joint in enumerate(config.joints)
        },
        **{
            f"fc2_{layer}": (head.finger_weight[finger], head.finger_bias[finger])
            for layer, finger in enumerate(order.fingers)
        },
        "fc3_0": (head.pose_weight, head.pose_bias),
    }
    with torch.no_grad():
        _fill(Path(path), f"the Pose-REN of {dataset}", targets)
        _to_public_order(head, order.own, order.fingers)
    return backbone.eval(), head.eval()


def _empty(config: HeadConfig, channels: tuple[int, int, int]) -> tuple[Backbone, RegionEnsemble]:
    """Networks whose weights are still to be filled in."""
    with torch.device("meta"):
        backbone, head = Backbone(channels), RegionEnsemble(config)
    return backbone.to_empty(device="cpu"), head.to_empty(device="cpu")


def _order(dataset: str) -> ReleasedOrder:
    if dataset not in DATASETS:
        raise ValueError(f"dataset is {dataset!r}; expected one of {', '.join(DATASETS)}")
    return DATASETS[dataset]


def _init_beside(path: Path) -> Path:
    """The Init-CNN that was released with a refining network."""
    beside = path.with_name(path.name.replace("pose_ren", "baseline"))
    if beside == path or not beside.exists():
        wanted = "its Init-CNN" if beside == path else f"its Init-CNN {beside}"
        raise FileNotFoundError(
            f"{wanted} is not beside {path}; the released system is two files, <dataset>_pose_ren.caffemodel and "
            "<dataset>_baseline.caffemodel: put them into one folder, or name the second as init (--init)"
        )
    return beside


def _convolutions(backbone: Backbone) -> dict[str, tuple[Tensor, Tensor]]:
    layers = {name: part for name, part in backbone.named_modules() if isinstance(part, nn.Conv2d)}
    return {name: (layer.weight, layer.bias) for name, layer in layers.items() if layer.bias is not None}


def _fill(path: Path, network: str, targets: Targets) -> None:
    """Copy every layer of a file to where it belongs, once, and refuse what does not belong.

    Raises:
        ValueError: A layer is missing, duplicate or unexpected, a shape differs, or a value is not finite.
    """
    found: list[str] = []
    for layer in read_layers(path):
        if layer.name in found:
            raise ValueError(f"{path}: layer {layer.name!r} occurs twice; expected {network}")
        if layer.blobs:
            found.append(layer.name)
        if layer.name in targets:
            _copy(path, network, layer, targets[layer.name])
    missing = [name for name in targets if name not in found]
    unexpected = [name for name in found if name not in targets]
    if missing or unexpected:
        faults = [f"{kind} {', '.join(names)}" for kind, names in (("lacks", missing), ("has", unexpected)) if names]
        raise ValueError(
            f"{path} is not {network}: it {' and '.join(faults)}. Choose the dataset that the weights are of; the "
            "Init-CNN (*_baseline) and Pose-REN (*_pose_ren) are two files"
        )


def _copy(path: Path, network: str, layer: Layer, targets: tuple[Tensor, Tensor]) -> None:
    if len(layer.blobs) != 2:
        raise ValueError(f"{path}: layer {layer.name!r} has {len(layer.blobs)} blobs; expected its weight and its bias")
    for kind, target, shape, values in zip(("weight", "bias"), targets, layer.shapes, layer.blobs, strict=True):
        expected = tuple(target.shape)
        # Old files pad a shape with leading ones to four axes.
        if shape not in (expected, (1,) * (4 - len(expected)) + expected):
            raise ValueError(
                f"{path}: the {kind} of layer {layer.name!r} has shape {list(shape)}; expected {list(expected)} for "
                f"{network}: {_what_differs(shape, expected)}"
            )
        if values.size != math.prod(expected):
            raise ValueError(
                f"{path}: the {kind} of layer {layer.name!r} holds {values.size} values; expected "
                f"{math.prod(expected)} for its shape {list(expected)}: the file is damaged"
            )
        np.copyto(target.detach().numpy(), values.reshape(expected))
        if not bool(torch.isfinite(target).all()):
            raise ValueError(f"{path}: the {kind} of layer {layer.name!r} holds values that are NaN or infinite")


def _what_differs(shape: tuple[int, ...], expected: tuple[int, ...]) -> str:
    if math.prod(shape) == math.prod(expected):
        return "the same numbers in another order, a transposed weight perhaps"
    return "another dataset, or another network"


def _to_public_order(head: RegionEnsemble, own: tuple[int, ...], fingers: tuple[int, ...]) -> None:
    """Reorder the last layer in place: its rows from own to public joints, its columns from layers to fingers."""
    rows = (3 * torch.tensor(own)[:, None] + torch.arange(3)).flatten()
    head.pose_bias.copy_(head.pose_bias[rows])
    layer_of_finger = torch.tensor(fingers).argsort()
    columns = head.pose_weight[rows].reshape(len(rows), len(fingers), -1)[:, layer_of_finger]
    head.pose_weight.copy_(columns.flatten(1))
