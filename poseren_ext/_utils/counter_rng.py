# SPDX-License-Identifier: MIT
"""Counter-based random numbers: the same value for the same (seed, index, stream), on any device, in any batch."""

from __future__ import annotations

import math

import torch

_GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15, the odd integer nearest 2**64 / golden ratio
_MIX1, _MIX2 = -4658895280553007687, -7723592293110705685  # splitmix64's two multipliers


def _shift(z: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical right shift of int64 (torch's own is arithmetic)."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: torch.Tensor) -> torch.Tensor:
    z = (z ^ _shift(z, 30)) * _MIX1
    z = (z ^ _shift(z, 27)) * _MIX2
    return z ^ _shift(z, 31)


class Counter:
    """Random numbers for a batch of samples, keyed by (seed, index of the sample, name of the stream).

    Args:
        seed: any integer.
        index: int64 [B], the samples' own numbers; a sample's numbers do not depend on its batch.
    """

    def __init__(self, seed: int, index: torch.Tensor) -> None:
        self.index = index.to(torch.int64)
        start = torch.full_like(self.index, (seed & 0x7FFFFFFFFFFFFFFF) ^ 0x5851F42D)
        self._key = _mix(_mix(start) + self.index * _GOLDEN)

    def _bits(self, stream: str, count: int) -> torch.Tensor:
        salt = int.from_bytes(stream.encode()[-7:].rjust(7, b"\0"), "little")
        lane = torch.arange(1, count + 1, device=self.index.device, dtype=torch.int64)
        return _mix(_mix(self._key + salt)[:, None] + lane * _GOLDEN)

    def uniform(self, stream: str, count: int, low: float = 0.0, high: float = 1.0) -> torch.Tensor:
        """Uniform in [low, high): float32 [B, count]."""
        return low + (high - low) * (_shift(self._bits(stream, count), 40).float() * 2.0**-24)

    def normal(self, stream: str, count: int) -> torch.Tensor:
        """Standard normal (Box-Muller): float32 [B, count]."""
        bits = self._bits(stream, count)
        u1 = (_shift(bits, 40).float() + 0.5) * 2.0**-24
        u2 = ((bits & 0xFFFFFF).float()) * 2.0**-24
        return torch.sqrt(-2.0 * torch.log(u1)) * torch.cos(2.0 * math.pi * u2)

    def field(self, stream: str, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Two standard normals and a uniform from one draw each, for pixels: float32 [B, count] thrice."""
        bits = self._bits(stream, count)
        radius = torch.sqrt(-2.0 * torch.log(((bits & 0xFFFFFF).float() + 0.5) * 2.0**-24))
        angle = (_shift(bits, 24) & 0xFFFFFF).float() * (2.0 * math.pi * 2.0**-24)
        return radius * torch.cos(angle), radius * torch.sin(angle), _shift(bits, 48).float() * 2.0**-16

    def integer(self, stream: str, count: int, below: int) -> torch.Tensor:
        """Integers in [0, below): int64 [B, count]."""
        return _shift(self._bits(stream, count), 24) % below
