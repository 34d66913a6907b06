// SPDX-License-Identifier: MIT
// poseren_ext._C: importing it loads the ops library, which registers torch.ops.poseren; beyond that, build facts and
// the memory that the ops keep.
#include <pybind11/pybind11.h>

#include "cpu/isa.h"
#include "cpu/kept_memory.h"

namespace py = pybind11;

// Free-threaded Python: the module holds no state of its own, and the ops none but memory that a lock guards.
PYBIND11_MODULE(_C, m, py::mod_gil_not_used()) {
  m.doc() = "Registers torch.ops.poseren and says how it was built.";
  m.def("build_info", [] {
    py::dict info;
    info["version"] = POSEREN_VERSION;
    info["torch"] = POSEREN_TORCH_VERSION;
    info["cpu_isa"] = poseren::cpu::isa_name();
    info["cuda_architectures"] = POSEREN_CUDA_ARCHITECTURES;
    return info;
  });
  m.def("release_memory", &poseren::cpu::release_memory);
}
