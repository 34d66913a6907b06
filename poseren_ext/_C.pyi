# SPDX-License-Identifier: MIT  # noqa: N999
"""Importing this module registers ``torch.ops.poseren``."""

def build_info() -> dict[str, str]:
    """How the native code was built: version, torch, cuda_architectures; and cpu_isa, which of its vector kernels run.

    Raises:
        RuntimeError: POSEREN_ISA names an instruction set that this machine does not have.
    """
