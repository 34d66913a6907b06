# SPDX-License-Identifier: MIT  # noqa: N999
"""Importing this module registers ``torch.ops.poseren``."""

def build_info() -> dict[str, str]:
    """How the native code was built: version, torch, cuda_architectures."""
