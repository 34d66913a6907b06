// SPDX-License-Identifier: MIT
#include "cpu/roi_windows.h"

#include "cpu/parallel.h"

namespace poseren::cpu {

void run(const RoiWindows& body, Queue) {
  for_each(body.batch * body.joints.count, 4096, body);
}

}  // namespace poseren::cpu
