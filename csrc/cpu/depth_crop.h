// SPDX-License-Identifier: MIT
#pragma once

#include "core/depth_crop.h"
#include "core/queue.h"

namespace poseren::cpu {

void run(const DepthCrop& body, Queue);
void run(const DepthCropBackward& body, Queue);

}  // namespace poseren::cpu
