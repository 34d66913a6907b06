# SPDX-License-Identifier: MIT
"""`python -m poseren_ext.training FOLDER [field=value ...]`."""

from __future__ import annotations

import argparse
from pathlib import Path

from poseren_ext.training import Trainer, read_config
from poseren_ext.training.distributed import torchrun_ranks


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
    with torchrun_ranks() as ranks:
        device = f"cuda:{ranks.local}" if arguments.device == "cuda" else arguments.device
        Trainer(config, arguments.folder, resume=arguments.resume, ranks=ranks, device=device).run()


if __name__ == "__main__":
    main()
