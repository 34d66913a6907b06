# SPDX-License-Identifier: MIT
"""What a trained model gains without another step: weights that every type holds, and no constant error."""

from __future__ import annotations

import dataclasses

import torch

from poseren_ext.models import PoseREN, round_to_bytes
from poseren_ext.training.config import TrainConfig
from poseren_ext.training.streams import open_stream
from poseren_ext.training.validation import stage_poses

FRAMES = 4096
"""Of training subjects, that the error is measured on."""
_CHUNK = 1024


def finalize(model: PoseREN, config: TrainConfig, device: torch.device | str = "cpu") -> None:
    """Rounds the weights (:func:`poseren_ext.models.round_to_bytes`), then settles the biases; in place.

    Training looks at moved crops, with centres off by `depth_shift`; a model in use looks at what its centre shows it.
    There each joint is off by a constant on average, up to a mm in depth, and by what rounding adds. The last layers'
    biases take it up. It is measured on frames of training subjects that are not moved.

    Args:
        model: trained; in evaluation mode afterwards.
        config: of its training: names the frames.
        device: where the model is.
    """
    round_to_bytes(model)
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
