# SPDX-License-Identifier: MIT
"""Training of Pose-REN from a configuration, with checkpoints and resume."""

from poseren_ext.training.config import RECIPES, TrainConfig, make_config, read_config
from poseren_ext.training.loggers import Logger
from poseren_ext.training.trainer import Trainer

__all__ = ["RECIPES", "Logger", "TrainConfig", "Trainer", "make_config", "read_config"]
