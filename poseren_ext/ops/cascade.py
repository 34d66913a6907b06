# SPDX-License-Identifier: MIT
"""The fused cascade, and heads packed for it (paper, algorithm 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor

from poseren_ext.ops import _autograd
from poseren_ext.ops._validate import add_batch, check_devices, check_tensor, choice, whole
from poseren_ext.ops.roi import guided_joints, window_geometry
from poseren_ext.reference.cascade_refine import Head, HeadGeometry

WeightType: TypeAlias = Literal["float32", "bfloat16", "int8"]

SPATIAL_SCALE = 0.125
"""Feature cells per crop pixel: the backbone pools by two three times."""

SAMPLING_RATIO = 2
"""Samples along each side of a bin for heads of mode "align": the default of pose_roi_pool."""


@dataclass(frozen=True)
class PackedHead:
    """A head's weights in the layout and type that the cascade reads; created by :func:`pack_head`, not trainable.

    Attributes:
        config: the regions and the tree.
        region_weight: ``[M, W1, C*P*P]``; all weights are float32, bfloat16 or int8.
        region_scale: float32 [M, W1] for int8 weights: a row of weights is its integers times its scale; else None.
        region_bias: float32 [M, W1].
        finger_weight: ``[F, W2, K*W1]``.
        finger_scale: as region_scale, [F, W2].
        finger_bias: float32 [F, W2].
        pose_weight: ``[3J, F*W2]``.
        pose_scale: as region_scale, [3J].
        pose_bias: float32 [3J].
    """

    config: HeadGeometry
    region_weight: Tensor
    region_scale: Tensor | None
    region_bias: Tensor
    finger_weight: Tensor
    finger_scale: Tensor | None
    finger_bias: Tensor
    pose_weight: Tensor
    pose_scale: Tensor | None
    pose_bias: Tensor

    @property
    def nbytes(self) -> int:
        """Size of the tensors in bytes."""
        return sum(tensor.nbytes for tensor in self._tensors().values())

    def to(self, device: torch.device | str) -> PackedHead:
        """The same head on another device."""
        moved: dict[str, Any] = {name: tensor.to(device) for name, tensor in self._tensors().items()}
        return replace(self, **moved)

    def _tensors(self) -> dict[str, Tensor]:
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if isinstance(value, Tensor)}


def pack_head(head: Head, dtype: WeightType) -> PackedHead:
    """Convert the weights of a head to a narrower type: at batch 1 the cascade is limited by reading the weights.

    "int8" quantizes each output row to 255 equal steps with one scale per row. The columns of the last layer are first
    scaled to equal size, and the layer before compensates. Rows that are already multiples of a power of two, as
    :func:`poseren_ext.models.round_to_bytes` makes them, stay unchanged. Accumulation is in float32 for every type. On
    CPUs with AVX-512 VNNI, int8 weights are multiplied with 8-bit instructions: inputs are quantized to 1/32639 of the
    largest magnitude in a region and sums are exact. This changes joints by a few thousandths of a mm; rounding the
    weights changes them by some tenths of a mm.

    Args:
        head: ``poseren_ext.models.RegionEnsemble``, or an object with its parameters and configuration.
        dtype: "float32" (shares the weights of a float32 head), "bfloat16" or "int8".

    Raises:
        TypeError: head is not a head.
        ValueError: dtype is unknown, or weights are NaN or infinite and cannot be quantized.
    """
    _check_head(head)
    choice(dtype, "dtype", ("float32", "bfloat16", "int8"))
    tensors: dict[str, Any] = {}
    for layer in ("region", "finger", "pose"):
        weight = getattr(head, f"{layer}_weight").detach()
        packed, scale = _quantize(weight, layer) if dtype == "int8" else (weight.to(getattr(torch, dtype)), None)
        tensors[f"{layer}_weight"], tensors[f"{layer}_scale"] = packed, scale
        tensors[f"{layer}_bias"] = getattr(head, f"{layer}_bias").detach().float()
    if dtype == "int8" and not _is_exact(head.pose_weight.detach(), tensors["pose_weight"], tensors["pose_scale"]):
        weight, columns = _balanced(head.pose_weight.detach().float())
        tensors["pose_weight"], tensors["pose_scale"] = _quantize(weight, "pose")
        columns = columns.view_as(tensors["finger_bias"])
        tensors["finger_scale"], tensors["finger_bias"] = (
            tensors[name] * columns for name in ("finger_scale", "finger_bias")
        )
    return PackedHead(head.config, **tensors)


def cascade_refine(
    features: Tensor, pose: Tensor, head: Head | PackedHead, *, stages: int = 3
) -> tuple[Tensor, Tensor]:
    """``P_t = R(P_{t-1}, F)`` for t = 1..T: one model for every stage, on features computed once.

    The model depends on a pose only through its windows, so results of unchanged windows are reused: a region whose
    window did not move reuses its hidden activation and its partial sum in the finger layer (on CUDA, a finger none of
    whose regions moved reuses its hidden activation), and a sample none of whose windows moved is finished. The poses
    are identical to those of the plain loop. Sums have a fixed order: the poses of a sample have the same bits in any
    batch and for any number of threads (on CUDA: among all batches of up to 8 samples, and among all larger ones). In
    mode "align" every stage is computed in full. Dropout is never applied.

    The op is not differentiable: a backward pass through it raises RuntimeError. To train, use
    ``poseren_ext.models.PoseREN``.

    Args:
        features: [B, C, H, W] or [C, H, W] of the backbone, in any memory layout. Dtypes other than float32 are
            converted once.
        pose: initial normalised pose [B, J, 3] or [J, 3]; used in float32.
        head: a head of guided regions, ``poseren_ext.models.RegionEnsemble`` with float32 or bfloat16 weights, or its
            packed form.
        stages: T.

    Returns:
        tuple[Tensor, Tensor]: poses float32 [T+1, B, J, 3] (or [T+1, J, 3]): the initial pose and that of every stage.
            stages_run int32 [B] (or []): the number of stages that were computed: stage 1, and every later stage before
            which at least one window of the sample moved. A sample with an invalid guided joint (NaN or infinite) has
            NaN poses from then on; other samples of the batch are not affected.

    Raises:
        TypeError: features or pose is not a floating-point tensor, head is not a head, or its weights have an
            unsupported dtype.
        ValueError: Shapes or devices do not match, the head has grid regions (which do not depend on a pose; use
            :func:`run_grid`), or stages is negative.
    """
    check_tensor(features, "features", "[B, C, H, W]")
    check_tensor(pose, "pose", "normalised joints [B, J, 3]")
    _check_head(head)
    config = head.config
    if config.grid:
        raise ValueError(
            "head has grid regions, which look at no pose: there is nothing to refine; expected guided joints. "
            "Run it once: run_grid(features, head)"
        )
    maps, batched = add_batch(features, "features", "[B, C, H, W]", 4)
    rows, pose_batched = add_batch(pose, "pose", "normalised joints [B, J, 3]", 3)
    _check_shapes(maps, rows, head, same_rank=batched == pose_batched)
    steps = whole(stages, "stages", "how often to refine", least=0, most=10**6)
    poses, stages_run = _refine(maps, rows, head, config.joints, config.roi_size, steps)
    return (poses, stages_run) if batched else (poses[:, 0], stages_run[0])


def run_grid(features: Tensor, head: Head | PackedHead) -> Tensor:
    """The pose from a head of grid regions, such as that of the Init-CNN, which takes no initial pose.

    It runs one stage of :func:`cascade_refine` with windows placed on the grid's regions. It is not differentiable.

    Args:
        features: [B, C, S/8, S/8] or [C, S/8, S/8] of the backbone.
        head: a head with at most as many grid regions as joints, or its packed form.

    Returns:
        Normalised pose float32 [B, J, 3] or [J, 3].

    Raises:
        TypeError: features is not a floating-point tensor, head is not a head, or its weights have an unsupported
            dtype.
        ValueError: The head has guided joints or more regions than joints, or the features do not fit the head.
    """
    check_tensor(features, "features", "[B, C, H, W]")
    _check_head(head)
    config = head.config
    joints = head.pose_weight.shape[0] // 3
    if not 0 < len(config.grid) <= joints:
        raise ValueError(
            f"head has {len(config.grid)} grid regions and gives {joints} joints; expected 1 to {joints} of them. "
            "A head of guided joints needs a pose: cascade_refine(features, pose, head, stages=1)"
        )
    maps, batched = add_batch(features, "features", "[B, C, H, W]", 4)
    side = round(config.image_size * SPATIAL_SCALE)
    if tuple(maps.shape[-2:]) != (side, side):
        raise ValueError(f"features have shape {tuple(features.shape)}; expected maps of {side}x{side} cells")
    roi_size = max(1, round((config.cells - 1) / SPATIAL_SCALE))  # from the first cell to the last, pixels
    grid = tuple((row, column) for row, column in config.grid)
    # Tracing makes tensors of other types, which must not be kept.
    kept = type(maps) is Tensor and not torch.compiler.is_compiling()
    grid_pose = _kept_grid_pose if kept else _grid_pose
    rows = grid_pose(grid, config.cells, config.image_size, joints, maps.device).expand(maps.shape[0], -1, -1)
    _check_shapes(maps, rows, head, same_rank=True)
    poses, _ = _refine(maps, rows, head, range(len(config.grid)), roi_size, stages=1)
    return poses[1] if batched else poses[1, 0]


def _grid_pose(
    grid: tuple[tuple[int, int], ...], cells: int, image_size: int, joints: int, device: torch.device
) -> Tensor:
    """Normalised joints [J, 3] whose windows are those of a grid."""
    with torch.inference_mode(False):  # the result can be used outside inference mode too
        corner = torch.zeros(joints, 3, dtype=torch.float32, device="cpu")
        corner[: len(grid), :2] = torch.tensor(grid, dtype=torch.float32, device="cpu").flip(1) / SPATIAL_SCALE  # x, y
        return ((2 * corner + (cells - 1) / SPATIAL_SCALE) / image_size - 1).to(device)


# A CUDA graph cannot capture the copy to the GPU.
_kept_grid_pose = lru_cache(maxsize=64)(_grid_pose)


def _refine(
    maps: Tensor, pose: Tensor, head: Head | PackedHead, joints: Sequence[int], roi_size: int, stages: int
) -> tuple[Tensor, Tensor]:
    """Call the native op on validated features [B, C, H, W] and pose [B, J, 3]."""
    config = head.config
    layers = _layers(head)
    check_devices(maps, "features", pose=pose, **layers)
    poses, stages_run = _autograd.call(
        "cascade_refine",
        maps.float(),
        pose.float(),
        guided_joints(joints, pose),
        [region for finger in config.tree for region in finger],
        *layers.values(),
        config.cells,
        *window_geometry(config.image_size, roi_size, SPATIAL_SCALE),
        config.mode == "align",
        SAMPLING_RATIO,
        stages,
    )
    return poses, stages_run


def _check_head(head: object) -> None:
    needed = ["config", *(f"{layer}_{part}" for layer in ("region", "finger", "pose") for part in ("weight", "bias"))]
    missing = [name for name in needed if not hasattr(head, name)]
    if missing:
        raise TypeError(
            f"head is a {type(head).__name__} without {', '.join(missing)}; expected a RegionEnsemble of "
            "poseren_ext.models (a PoseREN's is its .head) or its packed form"
        )


def _check_shapes(maps: Tensor, pose: Tensor, head: Head | PackedHead, *, same_rank: bool) -> None:
    """Checks that features [B, C, H, W] and pose [B, J, 3] match each other and the head.

    Raises:
        ValueError: They do not match.
    """
    if not same_rank or maps.shape[0] != pose.shape[0]:
        raise ValueError(
            f"features have shape {tuple(maps.shape)} and pose has shape {tuple(pose.shape)}, counting the batch "
            "axis; expected [B, C, H, W] and [B, J, 3] of one B, or both without B"
        )
    channels = head.region_weight.shape[-1] // head.config.cells**2
    if maps.shape[1] != channels or 0 in maps.shape[-2:]:
        raise ValueError(
            f"features have shape {tuple(maps.shape)}; expected [B, {channels}, H, W]: the head's channels"
        )
    joints = head.pose_weight.shape[0] // 3
    if tuple(pose.shape[1:]) != (joints, 3):
        raise ValueError(f"pose has shape {tuple(pose.shape)}; expected [B, {joints}, 3]: the head's joints")


def _layers(head: Head | PackedHead) -> dict[str, Tensor | None]:
    """Weight, scale and bias of the three layers by name, in the argument order of the native op."""
    dtype = head.region_weight.dtype
    if dtype not in (torch.float32, torch.bfloat16) and not isinstance(head, PackedHead):
        raise TypeError(f"head has {dtype} weights; expected float32 or bfloat16: pack it with pack_head(head, ...)")
    tensors: dict[str, Tensor | None] = {}
    for layer in ("region", "finger", "pose"):
        tensors[f"head's {layer}_weight"] = getattr(head, f"{layer}_weight")
        tensors[f"head's {layer}_scale"] = getattr(head, f"{layer}_scale", None)
        tensors[f"head's {layer}_bias"] = getattr(head, f"{layer}_bias").float()
    return tensors


def _balanced(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Weights of the last layer [3J, F*W2] with columns of equal size, and the scales [F*W2] for the finger layer.

    ReLU commutes with positive factors, so the finger layer can absorb them. Without this, a few large columns would
    make the quantization steps of all other columns coarse.
    """
    columns = weight.abs().amax(0)
    columns = torch.where(columns == 0, 1, columns)
    return weight / columns, columns


def steps_of(weight: Tensor) -> Tensor:
    """Step of each row of weights [..., R, K]: the smallest power of two with all |weights| <= 127 steps; [..., R, 1].

    The steps of rows with NaN or infinity are not finite; they are not used.
    """
    mantissa, exponent = torch.frexp(weight.abs().amax(-1, keepdim=True).float() / 127)
    step = torch.ldexp(torch.ones_like(mantissa), exponent - (mantissa == 0.5).int())
    return torch.where(mantissa == 0, 1, torch.where(mantissa.isfinite(), step, mantissa))


def _quantize(weight: Tensor, layer: str) -> tuple[Tensor, Tensor]:
    """Quantize weights [..., R, K] to int8 with one float32 scale per row [..., R]."""
    scale = weight.abs().amax(-1).float() / 127
    if not bool(scale.isfinite().all()):
        raise ValueError(f"{layer}_weight holds NaN or infinite weights; expected a trained head")
    scale[scale == 0] = 1  # a row of zeros
    packed = torch.empty_like(weight, dtype=torch.int8)
    for index in range(len(weight)):  # one group at a time, to keep the temporary small
        group, steps = weight[index].float(), steps_of(weight[index])
        exact = (group / steps).frac().abs().amax(-1) == 0
        scale[index] = torch.where(exact, steps[..., 0], scale[index])
        packed[index] = (group / scale[index, ..., None]).round()
    return packed, scale


def _is_exact(weight: Tensor, packed: Tensor, scale: Tensor) -> bool:
    return bool((packed * scale[..., None] == weight).all())
