# SPDX-License-Identifier: MIT
"""Modules through ONNX Runtime: float32, and int8 weights by dynamic quantisation."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.rows import CannotRun

FLOAT32, INT8 = "ONNX Runtime", "ONNX Runtime int8"


def onnx_runtime(module: nn.Module, example: Sequence[Tensor], threads: int, device: str) -> dict[str, Any]:
    """Functions of NumPy arrays that run a module in float32 and with int8 weights; or why they cannot be had.

    Sizes are those of the example: what is known can be optimised.
    """
    if device != "cpu":
        return dict.fromkeys((FLOAT32, INT8), CannotRun(f"its build for {device} is another package"))
    try:
        import onnx  # noqa: F401
        import onnxruntime
        import onnxscript  # noqa: F401
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        return dict.fromkeys((FLOAT32, INT8), CannotRun(f"{error}; the extra onnx has it"))
    onnxruntime.set_default_logger_severity(3)
    names = [f"input{i}" for i in range(len(example))]
    with _quiet(), TemporaryDirectory(prefix="poseren_bench_") as folder:
        file, small = Path(folder) / "float32.onnx", Path(folder) / "int8.onnx"
        with torch.no_grad():
            torch.onnx.export(
                module, tuple(example), file, input_names=names, dynamo=True, verbose=False, external_data=False
            )
        sessions = {FLOAT32: _session(onnxruntime, file, threads)}
        # Convolutions stay float32: their int8 form is slower.
        quantize_dynamic(file, small, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8)
        sessions[INT8] = _session(onnxruntime, small, threads)
    return {name: _function(session, names) for name, session in sessions.items()}


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the exporters' advice, which is not for whoever reads the figures."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _session(onnxruntime: Any, file: Path, threads: int) -> Any:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Its threads spin while it runs, not into the turn of the next contender.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    return onnxruntime.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])


def _function(session: Any, names: list[str]) -> Any:
    def run(*arrays: Any) -> Any:
        return session.run(None, dict(zip(names, arrays, strict=True)))[0]

    return run
