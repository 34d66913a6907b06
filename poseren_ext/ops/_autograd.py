# SPDX-License-Identifier: MIT
"""Derivatives of the ops as autograd functions, in the form that torch.func needs: setup_context, jvp and vmap.

The public functions call these. The operators ``torch.ops.poseren.*`` get the same backward formulas from
``_registrations``, without forward mode.

A derivative that does not exist is refused by name, in reverse and in forward mode; it is never a silent 0.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function, forward_ad

from poseren_ext import reference
from poseren_ext.ops import _native

CASCADE_WEIGHTS = range(4, 13)
"""Positions of the weights, scales and biases among cascade_refine's arguments: they have no batch axis."""

_INVALID = {0: None, 1: "background"}  # csrc/core/depth_crop.h: Invalid; 2 is a value


def call(name: str, *args: Any) -> Any:
    """The op of this name; under torch.compile and torch.export the operator itself, with its registrations.

    torch.compile supports neither jvp nor vmap of an autograd function.
    """
    if torch.compiler.is_compiling():
        if any(_tangent(arg) is not None for arg in args):
            raise RuntimeError(f"{name} has no forward-mode derivative within torch.compile: call it outside")
        return getattr(_native.ops, name)(*args)
    function = _FUNCTIONS[name]
    if _is_differentiated(args) or torch._C._are_functorch_transforms_active():
        return function.apply(*args)  # type: ignore[no-untyped-call]
    return function.forward(*args)  # takes half as long for small inputs


def _is_differentiated(args: Sequence[Any]) -> bool:
    """Whether autograd, in reverse or forward mode, passes through one of the arguments."""
    recorded = torch.is_grad_enabled() and any(isinstance(arg, Tensor) and arg.requires_grad for arg in args)
    return recorded or has_tangent(args)


def has_tangent(args: Sequence[Any]) -> bool:
    """Whether forward mode is on and passes through one of the arguments."""
    if forward_ad._current_level < 0 or not torch._C._is_fwd_grad_enabled():
        return False
    return any(_tangent(arg) is not None for arg in args)


def _tangent(arg: Any) -> Tensor | None:
    return forward_ad.unpack_dual(arg).tangent if isinstance(arg, Tensor) else None  # type: ignore[no-untyped-call]


def refusal(message: str) -> Callable[..., Any]:
    """A backward or jvp that raises RuntimeError with this message."""

    def refuse(ctx: Any, *gradients: Any) -> Any:
        raise RuntimeError(message)

    return refuse


def fold_batch(
    call: Callable[..., Any],
    info: Any,
    in_dims: Sequence[Any],
    args: Sequence[Any],
    output_axes: Sequence[int] = (0,),
    shared: Collection[int] = (),
) -> tuple[Any, Any]:
    """The vmap rule of an op whose tensors lead with a batch axis: the mapped axis is folded into it.

    Args:
        call: the op.
        info: vmap's.
        in_dims: vmap's.
        args: the op's arguments.
        output_axes: for each output, the position of its batch axis.
        shared: positions of tensors without a batch axis, such as weights; they cannot be mapped over.

    Raises:
        NotImplementedError: A tensor without a batch axis is mapped over.
    """
    folded = []
    for position, (arg, axis) in enumerate(zip(args, in_dims, strict=True)):
        if not isinstance(arg, Tensor) or (position in shared and axis is None):
            folded.append(arg)
        elif position in shared:
            raise NotImplementedError(
                f"argument {position} of the op has no batch axis and cannot be mapped over: map over features and pose"
            )
        else:
            mapped = arg.expand(info.batch_size, *arg.shape) if axis is None else arg.movedim(axis, 0)
            folded.append(mapped.flatten(0, 1))
    outputs = call(*folded)
    if isinstance(outputs, Tensor):
        return _unfold(outputs, output_axes[0], info.batch_size), output_axes[0]
    parts = zip(outputs, output_axes, strict=True)
    return tuple(_unfold(output, axis, info.batch_size) for output, axis in parts), tuple(output_axes)


def _unfold(folded: Tensor, axis: int, size: int) -> Tensor:
    shape = folded.shape
    return folded.reshape(*shape[:axis], size, shape[axis] // size, *shape[axis + 1 :])


def _directional(
    function: Callable[..., Tensor], inputs: Sequence[Tensor], tangents: Sequence[Tensor | None]
) -> Tensor:
    """The directional derivative of a function of batched tensors, by reverse mode alone.

    The pullback is linear in its gradient, so the pullback of the pullback is the pushforward, wherever it is taken.
    """
    moving = [i for i, tangent in enumerate(tangents) if tangent is not None]

    def of_moving(*values: Tensor) -> Tensor:
        changed = dict(zip(moving, values, strict=True))
        return function(*(changed.get(i, value) for i, value in enumerate(inputs)))

    result, pullback = torch.func.vjp(of_moving, *(inputs[i] for i in moving))  # type: ignore[misc]  # typed as if has_aux
    _, pushforward = torch.func.vjp(pullback, torch.zeros_like(result))  # type: ignore[misc]  # typed as if has_aux
    tangent: Tensor = pushforward(tuple(tangents[i] for i in moving))[0]
    return tangent


class _Op(Function):
    """An autograd function whose vmap rule is `fold_batch`.

    Attributes:
        op: the native op that `forward` runs; "" if a class has its own `forward`.
        refused: message of the error for derivatives; "" if a class has its own.
        output_axes: as in `fold_batch`.
        shared: as in `fold_batch`.
    """

    op = refused = ""
    output_axes: Sequence[int] = (0,)
    shared: Collection[int] = ()

    def __init_subclass__(cls) -> None:
        if cls.op:
            cls.forward = staticmethod(lambda *args: _native.run(cls.op, *args))  # type: ignore[method-assign]
        if cls.refused:
            cls.backward = cls.jvp = staticmethod(refusal(cls.refused))  # type: ignore[method-assign]
        cls.vmap = staticmethod(  # type: ignore[method-assign]
            lambda info, in_dims, *args: fold_batch(cls.apply, info, in_dims, args, cls.output_axes, cls.shared)
        )

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        """Nothing is kept."""


# --- hand_center, roi_windows, cascade_refine: no derivative ----------------------------------------------------------


class HandCenter(_Op):
    """hand_center, as the native op; without a derivative."""

    op = "hand_center"
    refused = "hand_center has no derivative: pass depth.detach()"
    output_axes = (0, 0)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])


class RoiWindows(_Op):
    """roi_windows, as the native op: integers, which have no derivative."""

    op = "roi_windows"
    refused = "roi_windows has no derivative: windows are integers"

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output)


class CascadeRefine(_Op):
    """cascade_refine, as the native op; without a derivative."""

    op = "cascade_refine"
    refused = (
        "cascade_refine has no derivative: call it under torch.no_grad(), and train with the forward pass of "
        "poseren_ext.models.PoseREN"
    )
    output_axes = (1, 0)
    shared = CASCADE_WEIGHTS

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        ctx.mark_non_differentiable(output[1])


# --- depth_crop -------------------------------------------------------------------------------------------------------

_CROP_ONCE = "depth_crop is differentiable once: it has no second derivative"


class DepthCrop(_Op):
    """depth_crop, as the native op; differentiable in depth."""

    op = "depth_crop"

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        *tensors, size, invalid, invalid_value, nearest, depth_unit, dtype = inputs
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)
        ctx.options = size, invalid, invalid_value, nearest, depth_unit, dtype
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        _refuse_geometry(ctx.needs_input_grad[1:5])
        if grad is None or not ctx.needs_input_grad[0]:
            return (None,) * 11
        depth = ctx.saved_tensors[0]
        slope = DepthCropBackward.apply(grad, *ctx.saved_tensors, *ctx.options[1:-1])  # type: ignore[no-untyped-call]
        return slope.to(depth.dtype), *[None] * 10

    @staticmethod
    def jvp(ctx: Any, *tangents: Any) -> Any:
        _refuse_geometry([tangent is not None for tangent in tangents[1:5]])
        return DepthCropForward.apply(tangents[0], *ctx.saved_tensors, *ctx.options)  # type: ignore[no-untyped-call]


class DepthCropBackward(_Op):
    """depth_crop_backward, as the native op: from the crop's gradient to depth's."""

    op = "depth_crop_backward"
    refused = _CROP_ONCE


class DepthCropForward(_Op):
    """From depth's tangent [B, H, W] to the crop's; then depth_crop's own arguments."""

    refused = _CROP_ONCE

    @staticmethod
    def forward(tangent: Any, *args: Any) -> Any:
        depth, center, camera, cube, transform, size, invalid, invalid_value, nearest, depth_unit, dtype = args

        def crop(depth: Tensor) -> Tensor:
            return reference.depth_crop(
                depth,
                center,
                camera,
                cube=cube,
                size=size,
                transform=transform,
                invalid=_INVALID.get(invalid, invalid_value),  # type: ignore[arg-type]  # "background"
                interpolation="nearest" if nearest else "bilinear",
                depth_unit=depth_unit,
                dtype=dtype,
            )

        return _directional(crop, [depth], [tangent])


def _refuse_geometry(wanted: Sequence[bool]) -> None:
    names = [name for name, asked in zip(("center", "camera", "cube", "transform"), wanted, strict=True) if asked]
    if names:
        raise RuntimeError(
            f"depth_crop is differentiable in depth only, not in {' and '.join(names)}: pass {names[0]}.detach()"
        )


# --- pose_roi_pool ----------------------------------------------------------------------------------------------------

_POOL_ONCE = "pose_roi_pool is differentiable once: it has no second derivative"


class PoseRoiPool(_Op):
    """pose_roi_pool, as the native op; differentiable in features and, in mode "align", in the pose."""

    op = "pose_roi_pool"

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Any) -> None:
        features, pose, *ctx.settings = inputs
        ctx.save_for_backward(features, pose)
        ctx.save_for_forward(features, pose)
        ctx.set_materialize_grads(False)

    @staticmethod
    def backward(ctx: Any, grad: Any) -> Any:
        features, pose = ctx.saved_tensors
        *geometry, align, sampling_ratio = ctx.settings
        feature_grad = pose_grad = None
        if grad is not None and ctx.needs_input_grad[0]:
            feature_grad = PoolFeatureGrad.apply(grad, features, pose, *ctx.settings)  # type: ignore[no-untyped-call]
        if grad is not None and ctx.needs_input_grad[1] and align:
            pose_grad = PoolPoseGrad.apply(grad, features, pose, *geometry, sampling_ratio)  # type: ignore[no-untyped-call]
        return feature_grad, pose_grad, *[None] * 7

    @staticmethod
    def jvp(ctx: Any, feature_tangent: Any, pose_tangent: Any, *others: Any) -> Any:
        return PoolForward.apply(feature_tangent, pose_tangent, *ctx.saved_tensors, *ctx.settings)  # type: ignore[no-untyped-call]


class PoolFeatureGrad(_Op):
    """pose_roi_pool_feature_grad, as the native op."""

    op = "pose_roi_pool_feature_grad"
    refused = _POOL_ONCE


class PoolPoseGrad(_Op):
    """pose_roi_pool_pose_grad, as the native op."""

    op = "pose_roi_pool_pose_grad"
    refused = _POOL_ONCE


class PoolForward(_Op):
    """From tangents of features [B, C, H, W] and pose [B, J, D], either may be None, to that of the regions."""

    refused = _POOL_ONCE

    @staticmethod
    def forward(feature_tangent: Any, pose_tangent: Any, features: Any, pose: Any, *settings: Any) -> Any:
        joints, output_size, image_size, roi_size, spatial_scale, align, sampling_ratio = settings

        def pool(features: Tensor, pose: Tensor) -> Tensor:
            return reference.pose_roi_pool(
                features,
                pose,
                joints,
                output_size=output_size,
                image_size=image_size,
                roi_size=roi_size,
                spatial_scale=spatial_scale,
                mode="align" if align else "max",
                sampling_ratio=sampling_ratio,
            )

        return _directional(pool, [features, pose], [feature_tangent, pose_tangent])


_FUNCTIONS: dict[str, type[Function]] = {
    "hand_center": HandCenter,
    "roi_windows": RoiWindows,
    "cascade_refine": CascadeRefine,
    "depth_crop": DepthCrop,
    "pose_roi_pool": PoseRoiPool,
}
