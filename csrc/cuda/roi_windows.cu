// SPDX-License-Identifier: MIT
#include "cuda/roi_windows.h"

#include "cuda/for_each.h"

namespace poseren::cuda {

void run(const RoiWindows& body, Queue queue) {
  for_each(body, body.batch * body.joints.count, queue.stream);
}

}  // namespace poseren::cuda
