// SPDX-License-Identifier: MIT
#pragma once

#include "core/queue.h"
#include "core/roi_window.h"

namespace poseren::cuda {

void run(const RoiWindows& body, Queue queue);

}  // namespace poseren::cuda
