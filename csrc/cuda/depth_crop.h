// SPDX-License-Identifier: MIT
#pragma once

#include "core/depth_crop.h"
#include "core/queue.h"

namespace poseren::cuda {

void run(const DepthCrop& body, Queue queue);
void run(const DepthCropBackward& body, Queue queue);

}  // namespace poseren::cuda
