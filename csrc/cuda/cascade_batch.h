// SPDX-License-Identifier: MIT
#pragma once

#include "core/cascade.h"
#include "core/queue.h"

namespace poseren::cuda {

// Any number of samples: kernels for each stage and layer, that find in device memory what there is to do.
int64_t batch_scratch_bytes(const CascadeRefine& op);
void refine_batch(const CascadeRefine& op, Queue queue);

}  // namespace poseren::cuda
