// SPDX-License-Identifier: MIT
#include "cuda/cascade.h"

#include "cuda/cascade_small.h"

namespace poseren::cuda {

int64_t scratch_bytes(const CascadeRefine& op, Queue) {
  return small_scratch_bytes(op);
}

void run(const CascadeRefine& op, Queue queue) {
  refine_small(op, queue);
}

}  // namespace poseren::cuda
