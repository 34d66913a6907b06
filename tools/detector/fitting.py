# SPDX-License-Identifier: MIT
"""The optimisation of both stages of the hand detector."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from poseren_ext.training.distributed import ALONE, Ranks

Module = TypeVar("Module", bound=nn.Module)
_WARM_UP = 200  # steps
_SHOWN = 200  # steps from one line to the next


def fit(
    model: Module,
    cost: Callable[[int], Tensor],
    seconds: float,
    save: Callable[[Module], None],
    *,
    rate: float,
    decay: float,
    ranks: Ranks = ALONE,
) -> None:
    """AdamW with a cosine schedule over the given time; saves the moving average of the weights, again and again.

    Args:
        model: trained in place.
        cost: loss of the step with the given number.
        seconds: how long.
        save: writes the average, which is still that of the training.
        rate: highest learning rate.
        decay: of the moving average.
        ranks: processes, each of which computes its own costs.
    """
    average = copy.deepcopy(model)
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), rate, betas=(0.9, 0.98), weight_decay=1e-2)
    began, step, mean = time.monotonic(), 0, 0.0
    while (passed := ranks.mean((time.monotonic() - began) / seconds)) < 1.0:
        warm = min(1.0, (step + 1) / _WARM_UP)
        for group in optimizer.param_groups:
            group["lr"] = rate * warm * (0.01 + 0.495 * (1.0 + math.cos(math.pi * passed)))
        loss = cost(step)
        optimizer.zero_grad()
        loss.backward()
        ranks.average_gradients(model)
        nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        optimizer.step()
        step += 1
        with torch.no_grad():
            share = min(decay, step / (step + 20))
            for kept, new in zip(average.state_dict().values(), model.state_dict().values(), strict=True):
                if kept.is_floating_point():  # also the statistics of batch normalisations
                    kept.lerp_(new, 1.0 - share)
        mean += (float(loss.detach()) - mean) * max(0.02, 1.0 / step)
        if step % _SHOWN == 0 and ranks.main:
            print(f"step {step}, {seconds * passed:.0f} s, loss {mean:.4f}", flush=True)
            save(average)
    if ranks.main:
        save(average)


def trainable(model: Module) -> Module:
    """The model with gradients, in the layout that is fastest on CPUs."""
    model.requires_grad_()
    return model.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]  # not in the stubs


def normalised(model: Module) -> Module:
    """The model with a batch normalisation after each convolution but those of skip connections and of the output.

    Without, networks with random weights learn much more slowly. :func:`folded` takes them out again.
    """
    for name, child in list(model.named_children()):
        if not isinstance(child, nn.Conv2d):
            normalised(child)
        elif name not in ("skip", "head"):
            nn.init.kaiming_normal_(child.weight, nonlinearity="relu")
            child.bias = None
            layer = nn.BatchNorm2d(child.out_channels, momentum=0.02)
            if name == "second":  # residual branches start small
                nn.init.constant_(layer.weight, 0.2)
            setattr(model, name, nn.Sequential(child, layer))
    return model


def folded(model: Module) -> Module:
    """A copy for inference whose convolutions do what theirs and the batch normalisations did."""
    model = copy.deepcopy(model).eval()

    def fold(module: nn.Module) -> None:
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Sequential) and len(child) == 2 and isinstance(child[1], nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(child[0], child[1]))
            else:
                fold(child)

    fold(model)
    return model
