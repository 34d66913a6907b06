// SPDX-License-Identifier: MIT
// The two implementations of the cascade; cascade.cu chooses one by the size of the batch.
#pragma once

#include "core/kernels.h"

namespace poseren::cuda {

// Any number of samples: kernels per stage and layer, which find their work in device memory.
int64_t batch_scratch_bytes(const CascadeRefine& p);
void refine_batch(const CascadeRefine& p, Queue queue);

// A few samples, in one cooperative kernel. is_small says whether the current device can do that.
bool is_small(const CascadeRefine& p);
int64_t small_scratch_bytes(const CascadeRefine& p);
void refine_small(const CascadeRefine& p, Queue queue);

}  // namespace poseren::cuda
