# SPDX-License-Identifier: MIT
"""The optimizer of a training's phase, and its learning rates by the configuration's schedule."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch
from torch import nn

from poseren_ext.training.config import Phase, TrainConfig
from poseren_ext.training.muon import Muon


def make_optimizer(
    config: TrainConfig, phase: Phase, modules: Iterable[nn.Module], *, captured: bool
) -> torch.optim.Optimizer:
    """The phase's optimizer; each group's "rate" is its learning rate at full schedule.

    Args:
        config: names the optimizer and its rates.
        phase: the second one's rates are multiples of the first one's.
        modules: whose parameters are trained.
        captured: a CUDA graph holds its step: learning rates are tensors [] beside the weights, filled before a replay.
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
        groups += [{"params": biases, "rate": config.bias_rate * rate, "weight_decay": 0.0}]
        if config.optimizer == "sgd":
            optimizer = torch.optim.SGD(
                groups, rate, config.momentum, weight_decay=config.weight_decay, fused=captured or None
            )
        else:
            optimizer = torch.optim.AdamW(
                groups, rate, weight_decay=config.weight_decay, fused=True, capturable=captured
            )
    if captured:
        for group in optimizer.param_groups:
            group["lr"] = torch.tensor(group["rate"], device=group["params"][0].device)
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
    """Sets the learning rates of a step out of a phase's ``steps``; returns that of the first group."""
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
