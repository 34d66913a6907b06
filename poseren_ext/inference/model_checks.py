# SPDX-License-Identifier: MIT
"""Whether the packed form of a model computes what the model computes."""

from __future__ import annotations

import copy

import torch
from torch import nn

from poseren_ext.models import Backbone, ErrorHead, InitCNN, PoseREN, RegionEnsemble


def snapshot(model: PoseREN, device: torch.device | str | None = None) -> PoseREN:
    """A float32 copy of a model that later changes of its weights do not reach.

    Args:
        model: the model; half, bfloat16 and double weights are converted.
        device: where the copy is wanted; None leaves it where the model is.

    Raises:
        ValueError: the model has hooks, layers of other classes, or convolutions with other settings; the packed form
            would ignore them.
    """
    for name, module in model.named_modules():
        if name.startswith("error."):
            continue  # the packed form calls the error head as it is
        if (reason := _unusual(module)) is not None:
            raise ValueError(
                f"model{'.' * bool(name)}{name} has {reason}, which an Estimator would ignore; call the model itself "
                "on crops (poseren_ext.ops.depth_crop), or remove it"
            )
    own = copy.deepcopy(model, {id(model.skeleton): model.skeleton})
    return own.to(device=device, dtype=torch.float32).eval()


def _unusual(module: nn.Module) -> str | None:
    """What of a module the packed form does not know; None if nothing."""
    if module._forward_hooks or module._forward_pre_hooks:
        return "forward hooks"
    known = (PoseREN, InitCNN, Backbone, RegionEnsemble, ErrorHead, nn.Conv2d)
    base = next((kind for kind in known if isinstance(module, kind)), None)
    if base is None:
        return f"the class {type(module).__name__}"
    if type(module).forward is not base.forward or "forward" in vars(module):
        return "a forward of its own"
    if isinstance(module, nn.Conv2d):
        kernel = module.kernel_size[0]
        expected = ((1, 1), (1, 1), 1, "zeros", (kernel // 2, kernel // 2))
        if (module.stride, module.dilation, module.groups, module.padding_mode, module.padding) != expected:
            return "another stride, dilation, number of groups or padding"
    return None
