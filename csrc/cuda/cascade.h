// SPDX-License-Identifier: MIT
#pragma once

#include "core/cascade.h"
#include "core/queue.h"

namespace poseren::cuda {

// Memory that one call works in.
int64_t scratch_bytes(const CascadeRefine& op, Queue queue);

void run(const CascadeRefine& op, Queue queue);

}  // namespace poseren::cuda
