// SPDX-License-Identifier: MIT
#include "cuda/cascade.h"

#include <stdexcept>

#include "cuda/cascade_small.h"

namespace poseren::cuda {
namespace {

// Larger batches want grouped products; until they are here, no result is better than a wrong one.
void check_small(const CascadeRefine& op) {
  if (!is_small(op))
    throw std::runtime_error(
        "poseren::cascade_refine: this batch is too large for the CUDA kernel, which takes up to 8 samples; split the "
        "batch, or run it on the CPU");
}

}  // namespace

int64_t scratch_bytes(const CascadeRefine& op, Queue) {
  check_small(op);
  return small_scratch_bytes(op);
}

void run(const CascadeRefine& op, Queue queue) {
  check_small(op);
  refine_small(op, queue);
}

}  // namespace poseren::cuda
