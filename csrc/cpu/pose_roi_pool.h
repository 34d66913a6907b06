// SPDX-License-Identifier: MIT
#pragma once

#include "core/pose_roi_pool.h"
#include "core/queue.h"

namespace poseren::cpu {

void run(const PoseRoiPool& op, Queue);
void run(const PoseRoiPoolFeatureGrad& op, Queue);
void run(const PoseRoiPoolPoseGrad& op, Queue);

}  // namespace poseren::cpu
