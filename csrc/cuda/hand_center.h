// SPDX-License-Identifier: MIT
#pragma once

#include "core/hand_center.h"
#include "core/queue.h"

namespace poseren::cuda {

int64_t scratch_bytes(const HandCenter& body, Queue queue);
void run(const HandCenter& body, Queue queue);

}  // namespace poseren::cuda
