// SPDX-License-Identifier: MIT
// poseren_ext._C: importing it loads the ops library, which registers torch.ops.poseren. Its own function reports how
// the library was built.
#include <pybind11/pybind11.h>

#include "cpu/isa.h"

namespace py = pybind11;

// Free-threaded Python: neither the module nor the ops hold state that changes.
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
}
