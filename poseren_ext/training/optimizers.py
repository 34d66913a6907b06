# SPDX-License-Identifier: MIT
"""The optimizer of a training phase, and its learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn

from poseren_ext.training.config import Phase, TrainConfig
from poseren_ext.training.muon import Muon

_BLOCK = 1 << 16  # elements: 256 KiB of each tensor


class CaffeSGD(torch.optim.Optimizer):
    """Stochastic gradient descent as Caffe's solver: V = momentum V + lr (g + weight_decay W), W -= V.

    The velocity contains the learning rate, so that after a drop earlier gradients keep their old rate; in
    `torch.optim.SGD` the new rate applies to them too.

    Args:
        groups: parameter groups, each with "lr": a number, or a tensor [] where a CUDA graph holds the step.
        momentum: fraction of the velocity that is kept.
        weight_decay: weight decay of all parameters, including biases.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], momentum: float, weight_decay: float) -> None:
        super().__init__(groups, {"lr": 0.0, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step on the gradients as they are; closures are not supported. Gradients are overwritten."""
        if closure is not None:
            raise ValueError("CaffeSGD takes no closure; compute the gradients before step()")
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["velocity"] = torch.zeros_like(parameter)
                for weight, velocity, gradient in _blocks(parameter, state["velocity"], parameter.grad):
                    update = gradient.add_(weight, alpha=group["weight_decay"]).mul_(group["lr"])
                    weight.sub_(velocity.mul_(group["momentum"]).add_(update))


def _blocks(*tensors: torch.Tensor) -> Iterable[tuple[torch.Tensor, ...]]:
    """Views of tensors of equal size; on a CPU in blocks that stay in its cache between the passes of an update."""
    if tensors[0].device.type != "cpu" or not all(tensor.is_contiguous() for tensor in tensors):
        return [tensors]
    return zip(*(torch.split(tensor.view(-1), _BLOCK) for tensor in tensors), strict=True)


def make_optimizer(
    config: TrainConfig, phase: Phase, modules: Iterable[nn.Module], *, captured: bool
) -> torch.optim.Optimizer:
    """The optimizer of a phase; "rate" of each group is its learning rate before the schedule.

    Args:
        config: the optimizer and its rates.
        phase: "init" or "refine", whose rates are multiplied by `refine_rate`.
        modules: the modules to train.
        captured: whether the step is captured in a CUDA graph; learning rates are then tensors [] on the device of the
            weights, which are filled before each replay.
    """
    hidden, outer, biases = _groups(modules)
    rate = config.learning_rate * (1.0 if phase == "init" else config.refine_rate)
    optimizer: torch.optim.Optimizer
    if config.optimizer == "muon":
        own = rate / config.learning_rate * config.output_rate
        groups = [{"params": hidden, "rate": rate}]
        groups += [{"params": rest, "rate": own, "orthogonal": False} for rest in (outer, biases)]
        optimizer = Muon(groups, config.weight_decay)
    else:
        groups = [{"params": hidden + outer, "rate": rate}]
        groups += [{"params": biases, "rate": config.bias_rate * rate}]
        if config.optimizer == "sgd":
            optimizer = CaffeSGD(groups, config.momentum, config.weight_decay)
        else:
            groups[1]["weight_decay"] = 0.0
            optimizer = torch.optim.AdamW(
                groups, rate, weight_decay=config.weight_decay, fused=True, capturable=captured
            )
    if captured:
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(group["rate"], dtype=torch.float32, device=group["params"][0].device)
    return optimizer


def _groups(modules: Iterable[nn.Module]) -> tuple[list[nn.Parameter], list[nn.Parameter], list[nn.Parameter]]:
    """Weights of hidden layers, weights of the first and the last layer, biases."""
    hidden: list[nn.Parameter] = []
    outer: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    for part in modules:
        for name, parameter in part.named_parameters():
            if name.endswith("bias"):
                biases.append(parameter)
            else:
                (outer if "conv0" in name or "pose_weight" in name else hidden).append(parameter)
    return hidden, outer, biases


def set_rates(config: TrainConfig, optimizer: torch.optim.Optimizer, step: int, steps: int) -> float:
    """Sets the learning rates of step `step` of a phase of ``steps``; returns that of the first group."""
    share = min(1.0, (step + 1) / max(config.warmup, 1))
    if config.schedule == "trapezoid":
        share *= min(1.0, (steps - step) / (config.decay * steps))
    elif config.schedule == "cosine":
        share *= 0.5 * (1.0 + math.cos(math.pi * step / steps))
    else:
        share *= 0.1 ** (4 * step // steps)
    for group in optimizer.param_groups:
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(share * group["rate"])
        else:
            group["lr"] = share * group["rate"]
    return float(share * optimizer.param_groups[0]["rate"])
