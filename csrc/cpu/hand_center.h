// SPDX-License-Identifier: MIT
#pragma once

#include "core/hand_center.h"
#include "core/queue.h"

namespace poseren::cpu {

inline int64_t scratch_bytes(const HandCenter&, Queue) {
  return 0;
}
void run(const HandCenter& body, Queue);

}  // namespace poseren::cpu
