# SPDX-License-Identifier: MIT
"""Muon: orthogonalised momentum (Jordan et al., "Muon: an optimizer for hidden layers in neural networks", 2024)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

# Coefficients of the published Newton-Schulz iteration, which drives all singular values near 1 in five steps.
_A, _B, _C = 3.4445, -4.7750, 2.0315
_STEPS = 5
_MOMENTUM = 0.95
_BETAS, _EPSILON = (0.9, 0.999), 1e-8
# The momentum of a unit that no longer fires decays to denormal numbers, with which a CPU computes 40 times as slowly.
_SMALLEST = 1e-15  # the products of such numbers are normal too


def orthogonalize(matrices: torch.Tensor) -> torch.Tensor:
    """Approximates the nearest semi-orthogonal matrix of each of [..., R, C]: singular values between 0.7 and 1.2.

    The iteration x <- (A + B x x' + C (x x')^2) x multiplies from the left only, so it runs on the small matrix x x'
    and is applied once, which takes a fifth of the time for wide layers.
    """
    x: torch.Tensor = matrices / (torch.linalg.matrix_norm(matrices, keepdim=True) + 1e-7)
    tall = x.shape[-2] > x.shape[-1]
    x = x.mT if tall else x
    gram = x @ x.mT
    identity = torch.eye(gram.shape[-1], dtype=gram.dtype, device=gram.device)
    whole = identity
    for _ in range(_STEPS):
        step = _A * identity + _B * gram + _C * (gram @ gram)
        whole = step @ whole
        gram = step @ gram @ step
    x = whole @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Muon for the weights of hidden layers, Adam for the rest; relative updates are about equal in all weight layers.

    On the compact model it reaches the same loss in less than half of AdamW's steps.

    Args:
        groups: parameter groups, each with "orthogonal": True for Muon (convolutions [O, I, h, w] and stacks of
            matrices [M, O, I]), False for Adam; and "lr", a number, or a tensor [] where a CUDA graph holds the step.
        weight_decay: decoupled, for orthogonal groups.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], weight_decay: float = 0.0) -> None:
        super().__init__(groups, {"lr": 0.02, "weight_decay": weight_decay, "orthogonal": True})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step on the gradients as they are; closures are not supported."""
        if closure is not None:
            raise ValueError("Muon takes no closure; compute the gradients before step()")
        for group in self.param_groups:
            update = self._muon if group["orthogonal"] else self._adam
            for parameter in group["params"]:
                if parameter.grad is not None:
                    update(parameter, parameter.grad, group)

    def _muon(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        momentum = _without_denormals(state["momentum"].lerp_(gradient, 1.0 - _MOMENTUM))
        ahead = gradient.lerp(momentum, _MOMENTUM)  # Nesterov's
        matrices = ahead.flatten(1) if ahead.dim() == 4 else ahead
        rows, columns = matrices.shape[-2:]
        scale = max(1.0, rows / columns) ** 0.5
        parameter.mul_(1.0 - group["lr"] * group["weight_decay"])
        parameter.sub_(orthogonalize(matrices).reshape(parameter.shape).mul_(group["lr"] * scale))

    def _adam(self, parameter: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[parameter]
        if not state:
            # The step counter is on the device of the weights, because a CUDA graph takes no number from the host.
            state["count"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["mean"], state["square"] = torch.zeros_like(parameter), torch.zeros_like(parameter)
        count = state["count"].add_(1)
        mean = _without_denormals(state["mean"].lerp_(gradient, 1.0 - _BETAS[0]))
        square = state["square"].lerp_(gradient * gradient, 1.0 - _BETAS[1])
        corrections = [1.0 - beta**count for beta in _BETAS]
        step = (mean / corrections[0]) / ((square / corrections[1]).sqrt_() + _EPSILON)
        parameter.sub_(step.mul_(group["lr"]))


def _without_denormals(momentum: torch.Tensor) -> torch.Tensor:
    return torch.hardshrink(momentum, _SMALLEST, out=momentum)
