// SPDX-License-Identifier: MIT
#include "cpu/roi_windows.h"

#include "cuda/roi_windows.h"
#include "ops/device.h"
#include "ops/result.h"
#include "ops/roi.h"

namespace poseren::ops {

template <class Queue>
Tensor roi_windows(Tensor pose, std::vector<int64_t> joints, int64_t image_size, int64_t roi_size,
                   double spatial_scale) {
  const char* op = "roi_windows";
  check(pose.dim() == 3 && pose.size(2) >= 2, op, "pose must be [B, J, >=2]");
  check(pose.scalar_type() == ScalarType::Float, op, "pose must be float32");
  pose = as_contiguous(pose);
  RoiWindows body{};
  body.batch = pose.size(0);
  body.num_joints = pose.size(1);
  body.num_axes = pose.size(2);
  body.joints = joint_list(op, joints, body.num_joints);
  body.geometry = roi_geometry(op, image_size, roi_size, spatial_scale);
  On<Queue> device(pose);
  Tensor windows = new_result<Queue>(pose, {body.batch, body.joints.count, 4}, ScalarType::Int);
  body.pose = data<const float>(pose);
  body.window = data<Window>(windows);
  run(body, device.queue());
  return windows;
}

}  // namespace poseren::ops

POSEREN_REGISTER(roi_windows)
