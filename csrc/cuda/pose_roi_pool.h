// SPDX-License-Identifier: MIT
#pragma once

#include "core/pose_roi_pool.h"
#include "core/queue.h"

namespace poseren::cuda {

void run(const PoseRoiPool& op, Queue queue);
void run(const PoseRoiPoolFeatureGrad& op, Queue queue);
void run(const PoseRoiPoolPoseGrad& op, Queue queue);

}  // namespace poseren::cuda
