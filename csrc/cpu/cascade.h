// SPDX-License-Identifier: MIT
#pragma once

#include "core/cascade.h"
#include "core/queue.h"

namespace poseren::cpu {

// Memory that one call works in.
int64_t scratch_bytes(const CascadeRefine& op, Queue);

void run(const CascadeRefine& op, Queue);

}  // namespace poseren::cpu
