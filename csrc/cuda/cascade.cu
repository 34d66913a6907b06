// SPDX-License-Identifier: MIT
#include "cuda/cascade.h"

#include "cuda/cascade_batch.h"
#include "cuda/cascade_small.h"

namespace poseren::cuda {

int64_t scratch_bytes(const CascadeRefine& op, Queue) {
  return is_small(op) ? small_scratch_bytes(op) : batch_scratch_bytes(op);
}

void run(const CascadeRefine& op, Queue queue) {
  is_small(op) ? refine_small(op, queue) : refine_batch(op, queue);
}

}  // namespace poseren::cuda
