# SPDX-License-Identifier: MIT
"""`python -m poseren_ext.training FOLDER [field=value ...]`: what torchrun starts; else see `poseren train`."""

from __future__ import annotations

import argparse
from pathlib import Path

from poseren_ext.training.config import read_config
from poseren_ext.training.launch import launch


def main() -> None:
    """Trains in a folder."""
    parser = argparse.ArgumentParser(prog="python -m poseren_ext.training", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the run is kept")
    parser.add_argument("overrides", nargs="*", help="field=value")
    parser.add_argument("--config", type=Path, help="TOML file")
    parser.add_argument("--resume", action="store_true", help="go on from the folder's checkpoint")
    parser.add_argument(
        "--device", default="cpu", help="cpu or cuda; under torchrun each process takes a GPU of its own"
    )
    arguments = parser.parse_args()
    config = read_config(arguments.config, arguments.overrides)
    with launch(config, arguments.folder, resume=arguments.resume, device=arguments.device) as trainer:
        trainer.run()


if __name__ == "__main__":
    main()
