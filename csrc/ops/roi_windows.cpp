// SPDX-License-Identifier: MIT
#include "cpu/roi_windows.h"

#include "ops/tensor.h"

namespace poseren::ops {
namespace {

Tensor roi_windows(Tensor pose, std::vector<int64_t> joints, int64_t image_size, int64_t roi_size,
                   double spatial_scale) {
  const char* op = "roi_windows";
  check(pose.dim() == 3 && pose.size(2) >= 2, op, "pose must be [B, J, >=2]");
  check(pose.scalar_type() == ScalarType::Float, op, "pose must be float32");
  pose = torch::stable::contiguous(pose);
  RoiWindows body{};
  body.joints = joint_list(op, joints, pose.size(1));
  body.num_joints = pose.size(1);
  body.num_axes = pose.size(2);
  body.geometry = {static_cast<float>(image_size), static_cast<float>(roi_size), static_cast<float>(spatial_scale)};
  Tensor windows = torch::stable::new_empty(pose, {pose.size(0), body.joints.count, 4}, ScalarType::Int);
  body.pose = data<const float>(pose);
  body.window = data<Window>(windows);
  cpu::roi_windows(pose.size(0) * body.joints.count, body);
  return windows;
}

}  // namespace
}  // namespace poseren::ops

STABLE_TORCH_LIBRARY_IMPL(POSEREN_NAMESPACE, CPU, m) { m.impl("roi_windows", TORCH_BOX(&poseren::ops::roi_windows)); }
