// SPDX-License-Identifier: MIT
#pragma once

#include "core/queue.h"
#include "core/roi_window.h"

namespace poseren::cpu {

void run(const RoiWindows& body, Queue);

}  // namespace poseren::cpu
