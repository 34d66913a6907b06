# SPDX-License-Identifier: MIT
"""Peak memory of an estimator, measured in its own process: ``python -m benchmarks.memory``."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, cast

import torch

if TYPE_CHECKING:
    from benchmarks.material import Material
    from poseren_ext.models.files import Precision

_STATUS = Path("/proc/self/status")
_FRAMES = 8


def frame_memory(material: Material, dtype: str) -> dict[str, int]:
    """Bytes of `weights`, and the `peak` while frames are refined, without the interpreter and its libraries.

    The process loads the model from a file and packs it, as a user does.

    Raises:
        OSError: The system has no /proc/self/status.
    """
    from poseren_ext.models import save

    if not _STATUS.exists():
        raise OSError(f"{_STATUS} does not exist; peak memory is measured on Linux only (Settings.memory=False)")
    with TemporaryDirectory(prefix="poseren_bench_") as folder:
        path = Path(folder) / "model.safetensors"
        save(material.model, path)
        command = [sys.executable, "-m", __name__, str(path), dtype, str(material.settings.threads)]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    measured: dict[str, int] = json.loads(text)
    return measured


def _measure(path: str, dtype: str, threads: int) -> dict[str, int]:
    from benchmarks.material import CAMERA, FAR, NEAR, draw_frames
    from poseren_ext import ops
    from poseren_ext.inference.estimator import Estimator

    torch.set_num_threads(threads)
    frames = draw_frames(_FRAMES, 480, 640)
    ops.hand_center(frames, near=NEAR, far=FAR)
    torch.nn.functional.conv2d(torch.zeros(1, 1, 96, 96), torch.zeros(16, 1, 3, 3))  # the library's own memory
    before = _bytes("VmRSS")
    estimator = Estimator(path, camera=CAMERA, precision=cast("Precision", dtype))
    Path("/proc/self/clear_refs").write_text("5")  # the peak from here on: loading is over
    for frame in frames:
        estimator(frame, center=ops.hand_center(frame, near=NEAR, far=FAR)[0])
    return {"peak": _bytes("VmHWM") - before, "weights": estimator.model.nbytes}


def _bytes(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field))
    return 1024 * int(line.split()[1])


if __name__ == "__main__":
    print(json.dumps(_measure(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
