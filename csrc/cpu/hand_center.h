// SPDX-License-Identifier: MIT
#pragma once

#include "core/hand_center.h"
#include "core/queue.h"

namespace poseren::cpu {

void run(const HandCenter& body, Queue);

}  // namespace poseren::cpu
