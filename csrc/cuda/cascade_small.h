// SPDX-License-Identifier: MIT
#pragma once

#include "core/cascade.h"
#include "core/queue.h"

namespace poseren::cuda {

// A few samples, in one cooperative kernel. Whether that can be, on the current device:
bool is_small(const CascadeRefine& op);

int64_t small_scratch_bytes(const CascadeRefine& op);
void refine_small(const CascadeRefine& op, Queue queue);

}  // namespace poseren::cuda
