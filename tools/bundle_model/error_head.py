# SPDX-License-Identifier: MIT
"""`python -m tools.bundle_model.error_head MODEL --out FILE`: trains the error head of a model; nothing else changes.

On one CPU core, 1,024 training samples take about 10 s to make, and 3 s to learn from.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch
from safetensors.torch import load_file

from poseren_ext._utils.arrays import joined
from poseren_ext._utils.atomic_files import atomic_path
from poseren_ext.models import ErrorHead, PoseREN, load_model, save
from poseren_ext.models.files import write_tensors
from tools.bundle_model.error_measure import error_summary, measure_errors
from tools.bundle_model.error_training import CHUNK, ErrorCrops, ErrorSamples, fit_error_head, make_crops, make_samples

FRAMES = 8192
EPOCHS = 8.0


def add_error_head(
    model: PoseREN, *, frames: int = FRAMES, epochs: float = EPOCHS, folder: Path | None = None, seed: int = 0
) -> None:
    """Gives a model an error head, trained on synthetic frames; in place.

    Args:
        model: a trained model.
        frames: number of frames, each seen as the right and as the wrong hand; whole chunks of 512.
        epochs: how often each sample is seen.
        folder: keeps the rendered crops, for other models.
        seed: of the training.

    Raises:
        ValueError: fewer frames than one chunk.
    """
    if frames < CHUNK:
        raise ValueError(f"frames is {frames}; expected at least {CHUNK}")

    def samples(head: ErrorHead) -> ErrorSamples:
        parts = []
        for chunk in range(frames // CHUNK):
            parts.append(make_samples(model, head, _crops(chunk, model, folder)))
            print(f"{(chunk + 1) * CHUNK} of {frames} frames", flush=True)
        return joined(parts)

    fit_error_head(model, samples, epochs=epochs, seed=seed)


def _crops(chunk: int, model: PoseREN, folder: Path | None) -> ErrorCrops:
    skeleton, cube = model.skeleton.name, model.config.cube
    if folder is None:
        return make_crops(chunk, skeleton, cube)
    path = folder / f"{skeleton}_{cube:g}_{chunk}.safetensors"
    if not path.exists():
        crops = make_crops(chunk, skeleton, cube)
        with atomic_path(path) as draft:
            write_tensors(draft, {"crop": crops.crop, "pose": crops.pose}, {})
    return ErrorCrops(**load_file(path))


def main() -> None:
    """Trains and measures the error head of a model file."""
    parser = argparse.ArgumentParser(prog="python -m tools.bundle_model.error_head", description=__doc__)
    parser.add_argument("model", help="a model file, or the name of a bundled model")
    parser.add_argument("--out", type=Path, required=True, help="the model file to write")
    parser.add_argument("--frames", type=int, default=FRAMES, help="training frames")
    parser.add_argument("--epochs", type=float, default=EPOCHS)
    parser.add_argument("--folder", type=Path, help="keeps the rendered crops here, for other models")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--test-frames", type=int, default=64, help="of each test split, for the summary; 0 for none")
    given = parser.parse_args()
    if given.folder is not None:
        given.folder.mkdir(parents=True, exist_ok=True)
    model = load_model(given.model).requires_grad_(False)
    add_error_head(model, frames=given.frames, epochs=given.epochs, folder=given.folder, seed=given.seed)
    save(model, given.out)
    if given.test_frames:
        print(error_summary(measure_errors(model, frames=given.test_frames)))


if __name__ == "__main__":
    torch.set_num_threads(min(2, torch.get_num_threads()))
    main()
