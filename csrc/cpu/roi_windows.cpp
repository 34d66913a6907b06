// SPDX-License-Identifier: MIT
#include "cpu/roi_windows.h"

#include "cpu/parallel.h"

namespace poseren::cpu {

void roi_windows(int64_t regions, const RoiWindows& body) { for_each(regions, 4096, body); }

}  // namespace poseren::cpu
