// SPDX-License-Identifier: MIT
#include "cuda/cascade.h"

namespace poseren::cuda {

int64_t scratch_bytes(const CascadeRefine& p, Queue) {
  return is_small(p) ? small_scratch_bytes(p) : batch_scratch_bytes(p);
}

void run(const CascadeRefine& p, Queue queue) {
  is_small(p) ? refine_small(p, queue) : refine_batch(p, queue);
}

}  // namespace poseren::cuda
