# SPDX-License-Identifier: MIT
"""Post-training steps: weight rounding and bias correction."""

from __future__ import annotations

import dataclasses

import torch

from poseren_ext.models import PoseREN, round_to_bytes, round_to_nibbles
from poseren_ext.training.config import TrainConfig
from poseren_ext.training.streams import open_stream
from poseren_ext.training.validation import stage_poses

FRAMES = 4096
"""Number of frames of training subjects for measuring the mean errors."""
_CHUNK = 1024


def finalize(model: PoseREN, config: TrainConfig, device: torch.device | str = "cpu") -> None:
    """Rounds the weights, then corrects the biases; in place.

    With `weight_dtype` "int4", :func:`poseren_ext.models.round_to_nibbles` rounds, otherwise
    :func:`poseren_ext.models.round_to_bytes`.

    Training crops are shifted by up to `depth_shift`, but inference crops are not. On those, joints have mean errors
    of up to 1 mm in depth, plus those of rounding. They are measured on training subjects without augmentation
    and subtracted through the biases of the last layers.

    Args:
        model: a trained model; in evaluation mode afterwards.
        config: configuration of its training, which names the frames.
        device: device of the model.
    """
    (round_to_nibbles if config.weight_dtype == "int4" else round_to_bytes)(model)
    still = dataclasses.replace(
        config,
        rotation=0.0,
        translation=0.0,
        refine_translation=0.0,
        scale=0.0,
        depth_shift=0.0,
        chunk=min(config.chunk, _CHUNK),
        reuse=1,
        compile=False,
        poses="unrolled",
    )
    stream, first = open_stream(still, "refine", device), config.init_steps + config.refine_steps
    errors = []
    for step in range(first, first + -(-FRAMES // config.batch)):
        batch = stream.batch(step)
        initial = model.mean_pose.expand(len(batch.crop), -1, -1) if config.initial == "mean" else None
        errors.append((batch.pose - stage_poses(model, batch.crop, initial, stages=config.stages))[[0, -1]])
    at_first, at_last = torch.cat(errors, 1).mean(1)
    with torch.no_grad():
        model.head.pose_bias.add_(at_last.flatten())
        if config.initial == "init":
            model.init.head.pose_bias.add_(at_first.flatten())
