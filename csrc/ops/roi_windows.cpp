// SPDX-License-Identifier: MIT
#include "core/kernels.h"
#include "ops/device.h"
#include "ops/roi.h"

namespace poseren::ops {

template <class Queue>
Tensor roi_windows(Tensor pose, std::vector<int64_t> joints, int64_t image_size, int64_t roi_size,
                   double spatial_scale) {
  const char* op = "roi_windows";
  check(pose.dim() == 3 && pose.size(2) >= 2, op, "pose must be [B, J, >=2]");
  check(pose.scalar_type() == ScalarType::Float, op, "pose must be float32");
  pose = as_contiguous(op, pose);
  RoiWindows p{};
  p.batch = pose.size(0);
  p.num_joints = pose.size(1);
  p.num_axes = pose.size(2);
  p.joints = joint_list(op, joints, p.num_joints);
  p.geometry = roi_geometry(op, image_size, roi_size, spatial_scale);
  const DeviceScope<Queue> device(pose);
  Tensor windows = new_tensor(op, pose, {p.batch, p.joints.count, 4}, ScalarType::Int);
  p.pose = data<const float>(pose);
  p.window = data<Window>(windows);
  run(p, device.queue());
  return windows;
}

}  // namespace poseren::ops

POSEREN_REGISTER(roi_windows)
