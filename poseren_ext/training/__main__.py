# SPDX-License-Identifier: MIT
"""`python -m poseren_ext.training FOLDER [field=value ...]`: entry point for torchrun; see also `poseren train`."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from poseren_ext.training.config import TrainConfig, read_config
from poseren_ext.training.distributed import torchrun_ranks
from poseren_ext.training.trainer import Trainer, Watch


@contextmanager
def launch(
    config: TrainConfig,
    folder: Path,
    *,
    resume: bool = False,
    overwrite: bool = False,
    device: str = "cpu",
    watch: Watch | None = None,
) -> Iterator[Trainer]:
    """Create the trainer; under torchrun, "cuda" means the local GPU of each process.

    Raises:
        RuntimeError: The device does not exist.
        FileExistsError, FileNotFoundError, ImportError, ValueError: See `Trainer`.
    """
    with torchrun_ranks() as ranks:
        own = f"cuda:{ranks.local}" if device == "cuda" else device
        yield Trainer(
            config,
            folder,
            resume=resume,
            overwrite=overwrite,
            ranks=ranks,
            device=own,
            watch=watch if ranks.main else None,
        )


def main() -> None:
    """Trains in a folder."""
    parser = argparse.ArgumentParser(prog="python -m poseren_ext.training", description=__doc__)
    parser.add_argument("folder", type=Path, help="where the run is kept")
    parser.add_argument("overrides", nargs="*", help="field=value")
    parser.add_argument("--config", type=Path, help="TOML file")
    parser.add_argument("--resume", action="store_true", help="continue from the checkpoint in the folder")
    parser.add_argument("--overwrite", action="store_true", help="replace the run in the folder")
    parser.add_argument(
        "--device", default="cpu", help="cpu or cuda; under torchrun each process takes a GPU of its own"
    )
    arguments = parser.parse_intermixed_args()  # overrides may follow options
    config = read_config(arguments.config, arguments.overrides)
    how = {"resume": arguments.resume, "overwrite": arguments.overwrite}
    with launch(config, arguments.folder, **how, device=arguments.device) as trainer:
        trainer.run()


if __name__ == "__main__":
    main()
