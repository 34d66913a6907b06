// SPDX-License-Identifier: MIT
#include "core/kernels.h"
#include "ops/device.h"
#include "ops/roi.h"

namespace poseren::ops {
namespace {

void check_grad(const char* op, const Tensor& grad, const Tensor& features, const RegionPool& p) {
  check(grad.scalar_type() == features.scalar_type(), op, "grad must have the dtype of features");
  check(grad.device() == features.device(), op, "grad must be on the device of features");
  check(has_shape(grad, {p.batch, p.joints.count, p.channels, p.bins, p.bins}), op, "grad must be [B, M, C, P, P]");
}

}  // namespace

template <class Queue>
Tensor pose_roi_pool(Tensor features, Tensor pose, std::vector<int64_t> joints, int64_t output_size, int64_t image_size,
                     int64_t roi_size, double spatial_scale, bool align, int64_t sampling_ratio) {
  const char* op = "pose_roi_pool";
  PoseRoiPool p{};
  p.pool = region_pool(features, pose,
                       {op, joints, output_size, image_size, roi_size, spatial_scale, align, sampling_ratio});
  pose = as_contiguous(op, pose);
  const DeviceScope<Queue> device(features);
  const Shape shape{p.pool.batch, p.pool.joints.count, p.pool.channels, p.pool.bins, p.pool.bins};
  Tensor regions = new_tensor(op, features, shape);
  p.features = features.data_ptr();
  p.strides = map_strides(features);
  p.pose = pose.data_ptr();
  p.regions = regions.data_ptr();
  if (regions.numel() > 0) run(p, device.queue());
  return regions;
}

template <class Queue>
Tensor pose_roi_pool_feature_grad(Tensor grad, Tensor features, Tensor pose, std::vector<int64_t> joints,
                                  int64_t output_size, int64_t image_size, int64_t roi_size, double spatial_scale,
                                  bool align, int64_t sampling_ratio) {
  const char* op = "pose_roi_pool_feature_grad";
  PoseRoiPoolFeatureGrad p{};
  p.pool = region_pool(features, pose,
                       {op, joints, output_size, image_size, roi_size, spatial_scale, align, sampling_ratio});
  check_grad(op, grad, features, p.pool);
  grad = as_contiguous(op, grad);
  pose = as_contiguous(op, pose);
  const DeviceScope<Queue> device(features);
  Tensor feature_grad =
      allocate_tensor(op, features, features.sizes().vec(), {}, [&] { return torch::stable::empty_like(features); });
  p.grad = grad.data_ptr();
  p.features = features.data_ptr();
  p.strides = map_strides(features);
  p.pose = pose.data_ptr();
  p.feature_grad = feature_grad.data_ptr();
  p.grad_strides = map_strides(feature_grad);
  if (feature_grad.numel() > 0) run(p, device.queue());
  return feature_grad;
}

template <class Queue>
Tensor pose_roi_pool_pose_grad(Tensor grad, Tensor features, Tensor pose, std::vector<int64_t> joints,
                               int64_t output_size, int64_t image_size, int64_t roi_size, double spatial_scale,
                               int64_t sampling_ratio) {
  const char* op = "pose_roi_pool_pose_grad";
  PoseRoiPoolPoseGrad p{};
  p.pool =
      region_pool(features, pose, {op, joints, output_size, image_size, roi_size, spatial_scale, true, sampling_ratio});
  check_grad(op, grad, features, p.pool);
  grad = as_contiguous(op, grad);
  pose = as_contiguous(op, pose);
  const DeviceScope<Queue> device(features);
  Tensor pose_grad = new_tensor(op, pose, {p.pool.batch, p.pool.num_joints, p.pool.num_axes});
  p.grad = grad.data_ptr();
  p.features = features.data_ptr();
  p.strides = map_strides(features);
  p.pose = pose.data_ptr();
  p.pose_grad = pose_grad.data_ptr();
  if (pose_grad.numel() > 0) run(p, device.queue());
  return pose_grad;
}

}  // namespace poseren::ops

POSEREN_REGISTER(pose_roi_pool)
POSEREN_REGISTER(pose_roi_pool_feature_grad)
POSEREN_REGISTER(pose_roi_pool_pose_grad)
