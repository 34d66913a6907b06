# SPDX-License-Identifier: MIT
"""Training: from nothing but a configuration to a Pose-REN, restartable."""

from poseren_ext.training.config import RECIPES, TrainConfig, make_config, read_config
from poseren_ext.training.trainer import Trainer

__all__ = ["RECIPES", "TrainConfig", "Trainer", "make_config", "read_config"]
