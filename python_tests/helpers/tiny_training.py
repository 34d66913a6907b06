# SPDX-License-Identifier: MIT
"""Settings of a training run of a few seconds."""

TINY = {
    "channels": [4, 8, 8],
    "init_widths": [16, 16],
    "refine_widths": [8, 8],
    "dropout": 0.3,
    "batch": 8,
    "init_steps": 6,
    "refine_steps": 6,
    "stages": 2,
    "chunk": 16,
    "reuse": 2,
    "warmup": 2,
    "log_every": 2,
    "validate_every": 6,
    "checkpoint_every": 2,
    "validation_frames": 8,
}
