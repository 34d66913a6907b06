# SPDX-License-Identifier: MIT
"""Checks with nvcc and the CUDA runtime, with or without a GPU: register spills and invalid launches."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from poseren_ext.ops import _native

ROOT = Path(__file__).parents[2]
NVCC = shutil.which("nvcc")
needs_nvcc = pytest.mark.skipif(not NVCC, reason="nvcc is not installed: no CUDA source was compiled for a GPU")

LAUNCH = """
#include <cstdio>
#include "cuda/launch.h"
namespace poseren::cuda {
__global__ void touch(int* x) { if (x) *x = 1; }
}
using namespace poseren::cuda;
static void report(const char* name, const auto& call) {
  try { call(); std::printf("%s: fine\\n", name); }
  catch (const std::runtime_error& error) { std::printf("%s: %s\\n", name, error.what()); }
}
int main() {
  report("launch", [] { launch<touch>({.grid = 1, .block = 1}, static_cast<int*>(nullptr)); });
  std::printf("afterwards: %s\\n", cudaGetErrorName(cudaPeekAtLastError()));
  report("limits", [] { device_limits(); });
  report("no image", [] { detail::refuse("CUDA kernel touch", cudaErrorNoKernelImageForDevice); });
  report("no attributes", [] { detail::refuse("CUDA kernel touch", cudaErrorInvalidDeviceFunction); });
  report("empty", [] { launch<touch>({.grid = dim3(0), .block = 1}, static_cast<int*>(nullptr)); });
}
"""
SPILLING = """
__global__ void __launch_bounds__(1024, 2) spill(float* x) {
  float kept[200];
#pragma unroll
  for (int i = 0; i < 200; i++) kept[i] = x[i * 1024 + threadIdx.x];
  __syncthreads();
#pragma unroll
  for (int i = 0; i < 200; i++) x[i * 1024 + threadIdx.x] = kept[i] * kept[(i * 7 + 3) % 200];
}
"""


def compile_cuda(tmp_path: Path, text: str, *flags: str) -> subprocess.CompletedProcess[str]:
    assert NVCC
    source = tmp_path / "source.cu"
    source.write_text(text)
    command = [NVCC, "-std=c++20", f"-I{ROOT / 'csrc'}", *flags, source, "-o", tmp_path / "result"]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@needs_nvcc
def test_this_build_holds_the_kernels_for_every_architecture() -> None:
    """The build compiles each source of csrc/cuda for each of them, and fails where one spills (next test)."""
    held = _native.build_info()["cuda_architectures"].split()
    if not held:
        assert torch.version.cuda is None, "built without CUDA for a torch with CUDA: use cmake.define.POSEREN_CUDA=ON"
        pytest.skip("torch has no CUDA, so the CUDA kernels were not compiled")
    if not torch.cuda.is_available():  # a build for one machine's GPU may hold that alone
        assert {"80", "90"} <= set(held)


@needs_nvcc
def test_the_build_fails_where_a_kernel_spills(tmp_path: Path) -> None:
    options = re.search(r"-Xptxas=\S*warn-spills[^\s)]*", (ROOT / "cmake" / "cuda.cmake").read_text(encoding="utf-8"))
    assert options
    flags = [options[0]]
    spills = compile_cuda(tmp_path, SPILLING, *flags, "-arch=sm_90", "-cubin")
    assert spills.returncode != 0
    assert "spill" in spills.stderr.lower()
    fits = compile_cuda(tmp_path, SPILLING.replace("200", "8"), *flags, "-arch=sm_90", "-cubin")
    assert fits.returncode == 0, fits.stderr


@needs_nvcc
def test_a_launch_that_cannot_be_is_an_exception_and_leaves_no_error_behind(tmp_path: Path) -> None:
    """Compiled for an architecture that this machine's GPU, where there is one, is not."""
    architecture = "75" if torch.cuda.is_available() and torch.cuda.get_device_capability() != (7, 5) else "90"
    code = f"arch=compute_{architecture},code=sm_{architecture}"
    compiled = compile_cuda(tmp_path, LAUNCH, "-gencode", code)
    assert compiled.returncode == 0, compiled.stderr
    program = subprocess.run([tmp_path / "result"], capture_output=True, text=True, check=True)
    said = dict(line.split(": ", 1) for line in program.stdout.splitlines())
    remedy = "; rebuild with this GPU's compute capability in CMAKE_CUDA_ARCHITECTURES"
    assert said["launch"].startswith("CUDA kernel touch: ")
    if torch.cuda.is_available():
        assert said["launch"].endswith(remedy)
        assert (said["afterwards"], said["limits"]) == ("cudaSuccess", "fine")
    else:  # the runtime keeps reporting that there is no driver
        assert said["limits"].startswith("CUDA device: ")
    for status in ("no image", "no attributes"):
        assert said[status].startswith("CUDA kernel touch: ")
        assert said[status].endswith(remedy)
    assert said["empty"] == "fine"
