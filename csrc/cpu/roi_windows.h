// SPDX-License-Identifier: MIT
#pragma once

#include "core/roi_window.h"

namespace poseren::cpu {

void roi_windows(int64_t regions, const RoiWindows& body);

}  // namespace poseren::cpu
