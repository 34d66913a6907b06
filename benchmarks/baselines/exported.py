# SPDX-License-Identifier: MIT
"""Networks exported to ONNX: ONNX Runtime (float32, dynamic int8) and OpenVINO (float32, bfloat16)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.rows import CannotRun
from benchmarks.settings import Settings

ONNX_RUNTIME, OPENVINO = "ONNX Runtime", "OpenVINO"
INT8, BFLOAT16 = f"{ONNX_RUNTIME}, int8", f"{OPENVINO}, bfloat16"
NAMES = (ONNX_RUNTIME, INT8, OPENVINO, BFLOAT16)


def exported_networks(module: nn.Module, example: Sequence[Tensor], settings: Settings) -> dict[str, Any]:
    """Functions of NumPy arrays that run a module, by the names in ``NAMES``; or why they cannot run.

    Input sizes are fixed to those of the example, so that the runtimes can optimise for them.
    """
    if settings.device != "cpu":
        return dict.fromkeys(NAMES, CannotRun(f"its build for {settings.device} is another package"))
    if not settings.exported:
        return dict.fromkeys(NAMES, CannotRun("the export to ONNX was switched off for this run"))
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        return dict.fromkeys(NAMES, CannotRun(f"{error}; install poseren_ext[onnx]"))
    names = [f"input{i}" for i in range(len(example))]
    with _quiet(), TemporaryDirectory(prefix="poseren_bench_") as folder:
        file = Path(folder) / "float32.onnx"
        with torch.no_grad():
            torch.onnx.export(
                module, tuple(example), file, input_names=names, dynamo=True, verbose=False, external_data=False
            )
        return _onnx_runtime(file, names, settings.threads) | _openvino(file, settings.threads)


def _onnx_runtime(file: Path, names: list[str], threads: int) -> dict[str, Any]:
    try:
        import onnxruntime
        from onnxruntime.quantization import QuantType, quantize_dynamic
    except ImportError as error:
        return dict.fromkeys((ONNX_RUNTIME, INT8), CannotRun(f"{error}; install poseren_ext[onnx]"))
    onnxruntime.set_default_logger_severity(3)

    def load(path: Path) -> Callable[..., Any]:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Stop the threads from spinning after a call, which would slow down the next implementation.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda *arrays: session.run(None, dict(zip(names, arrays, strict=True)))[0]

    narrow = file.with_name("int8.onnx")
    # Convolutions stay float32: their int8 form is slower.
    quantize_dynamic(file, narrow, op_types_to_quantize=["MatMul"], per_channel=True, weight_type=QuantType.QInt8)
    return {ONNX_RUNTIME: load(file), INT8: load(narrow)}


def _openvino(file: Path, threads: int) -> dict[str, Any]:
    try:
        import openvino
    except ImportError as error:
        return dict.fromkeys((OPENVINO, BFLOAT16), CannotRun(f"{error}; install openvino"))
    core = openvino.Core()

    def load(precision: str) -> Callable[..., Any]:
        settings = {"INFERENCE_PRECISION_HINT": precision, "INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
        request = core.compile_model(core.read_model(file), "CPU", settings).create_infer_request()
        return lambda *arrays: request.infer(arrays)[0]

    narrow: Any = CannotRun("this CPU has no bfloat16 products")
    if "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
        narrow = load("bf16")
    return {OPENVINO: load("f32"), BFLOAT16: narrow}


@contextmanager
def _quiet() -> Iterator[None]:
    """Suppress the exporters' warnings, which do not concern the reader of the figures."""
    logging.disable(logging.WARNING)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)
