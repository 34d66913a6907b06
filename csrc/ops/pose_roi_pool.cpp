// SPDX-License-Identifier: MIT
#include "cpu/pose_roi_pool.h"

#include "cuda/pose_roi_pool.h"
#include "ops/device.h"
#include "ops/result.h"
#include "ops/roi.h"

namespace poseren::ops {
namespace {

// What stays the same from the op to its gradients, as the schemas list it.
struct Settings {
  const char* op;
  const std::vector<int64_t>& joints;
  int64_t output_size, image_size, roi_size;
  double spatial_scale;
  bool align;
  int64_t sampling_ratio;
};

RegionPool region_pool(const Tensor& features, const Tensor& pose, const Settings& s) {
  check(features.dim() == 4, s.op, "features must be [B, C, H, W]");
  check(pose.dim() == 3 && pose.size(2) >= 2, s.op, "pose must be [B, J, >=2]");
  check(pose.device() == features.device(), s.op, "features and pose must be on one device");
  check(pose.size(0) == features.size(0), s.op, "features and pose must hold the same number of samples");
  check(features.size(2) > 0 && features.size(3) > 0, s.op, "features must have cells");
  check(s.output_size > 0 && s.sampling_ratio > 0, s.op, "output_size and sampling_ratio must be positive");
  RegionPool p{};
  p.batch = features.size(0);
  p.channels = features.size(1);
  p.height = features.size(2);
  p.width = features.size(3);
  p.num_joints = pose.size(1);
  p.num_axes = pose.size(2);
  p.bins = s.output_size;
  p.samples = s.sampling_ratio;
  p.align = s.align;
  p.dtype = dtype_of(s.op, "features", features);
  check(p.dtype == DType::f64 || p.dtype == DType::f32 || p.dtype == DType::f16 || p.dtype == DType::bf16, s.op,
        "features must be floating-point");
  p.pose_dtype = dtype_of(s.op, "pose", pose);
  check(p.pose_dtype == DType::f32 || p.pose_dtype == DType::f64, s.op, "pose must be float32 or float64");
  p.geometry = roi_geometry(s.op, s.image_size, s.roi_size, s.spatial_scale);
  p.joints = joint_list(s.op, s.joints, p.num_joints);
  return p;
}

MapStrides map_strides(const Tensor& map) {
  return {map.stride(0), map.stride(1), map.stride(2), map.stride(3)};
}

void check_grad(const char* op, const Tensor& grad, const Tensor& features, const RegionPool& p) {
  check(grad.scalar_type() == features.scalar_type(), op, "grad must have the features' type");
  check(grad.device() == features.device(), op, "grad must be on the features' device");
  check(grad.dim() == 5 && grad.size(0) == p.batch && grad.size(1) == p.joints.count && grad.size(2) == p.channels &&
            grad.size(3) == p.bins && grad.size(4) == p.bins,
        op, "grad must be [B, M, C, P, P]");
}

}  // namespace

template <class Queue>
Tensor pose_roi_pool(Tensor features, Tensor pose, std::vector<int64_t> joints, int64_t output_size, int64_t image_size,
                     int64_t roi_size, double spatial_scale, bool align, int64_t sampling_ratio) {
  const Settings settings{"pose_roi_pool", joints,        output_size, image_size,
                          roi_size,        spatial_scale, align,       sampling_ratio};
  PoseRoiPool op{};
  op.pool = region_pool(features, pose, settings);
  pose = as_contiguous(pose);
  On<Queue> device(features);
  const RegionPool& p = op.pool;
  Tensor regions = new_result<Queue>(features, {p.batch, p.joints.count, p.channels, p.bins, p.bins});
  op.features = features.data_ptr();
  op.strides = map_strides(features);
  op.pose = pose.data_ptr();
  op.regions = regions.data_ptr();
  if (regions.numel() > 0) run(op, device.queue());
  return regions;
}

template <class Queue>
Tensor pose_roi_pool_feature_grad(Tensor grad, Tensor features, Tensor pose, std::vector<int64_t> joints,
                                  int64_t output_size, int64_t image_size, int64_t roi_size, double spatial_scale,
                                  bool align, int64_t sampling_ratio) {
  const Settings settings{
      "pose_roi_pool_feature_grad", joints, output_size, image_size, roi_size, spatial_scale, align, sampling_ratio};
  PoseRoiPoolFeatureGrad op{};
  op.pool = region_pool(features, pose, settings);
  check_grad(settings.op, grad, features, op.pool);
  grad = as_contiguous(grad);
  pose = as_contiguous(pose);
  On<Queue> device(features);
  Tensor feature_grad = features.is_contiguous() ? new_result<Queue>(features, features.sizes().vec())
                                                 : torch::stable::empty_like(features);
  op.grad = grad.data_ptr();
  op.features = features.data_ptr();
  op.strides = map_strides(features);
  op.pose = pose.data_ptr();
  op.feature_grad = feature_grad.data_ptr();
  op.grad_strides = map_strides(feature_grad);
  if (feature_grad.numel() > 0) run(op, device.queue());
  return feature_grad;
}

template <class Queue>
Tensor pose_roi_pool_pose_grad(Tensor grad, Tensor features, Tensor pose, std::vector<int64_t> joints,
                               int64_t output_size, int64_t image_size, int64_t roi_size, double spatial_scale,
                               int64_t sampling_ratio) {
  const Settings settings{
      "pose_roi_pool_pose_grad", joints, output_size, image_size, roi_size, spatial_scale, true, sampling_ratio};
  PoseRoiPoolPoseGrad op{};
  op.pool = region_pool(features, pose, settings);
  check_grad(settings.op, grad, features, op.pool);
  grad = as_contiguous(grad);
  pose = as_contiguous(pose);
  On<Queue> device(features);
  Tensor pose_grad = new_result<Queue>(pose, {op.pool.batch, op.pool.num_joints, op.pool.num_axes});
  op.grad = grad.data_ptr();
  op.features = features.data_ptr();
  op.strides = map_strides(features);
  op.pose = pose.data_ptr();
  op.pose_grad = pose_grad.data_ptr();
  if (pose_grad.numel() > 0) run(op, device.queue());
  return pose_grad;
}

}  // namespace poseren::ops

POSEREN_REGISTER(pose_roi_pool)
POSEREN_REGISTER(pose_roi_pool_feature_grad)
POSEREN_REGISTER(pose_roi_pool_pose_grad)
