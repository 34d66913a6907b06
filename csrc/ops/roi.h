// SPDX-License-Identifier: MIT
// Arguments that say where the guided joints' regions lie.
#pragma once

#include "core/pose_roi_pool.h"
#include "ops/tensor.h"

namespace poseren::ops {

inline RoiGeometry roi_geometry(const char* op, int64_t image_size, int64_t roi_size, double spatial_scale) {
  check(roi_size > 0 && roi_size < image_size, op, "roi_size must be 1 to image_size - 1");
  // Cells are counted in int32, and exactly in float32.
  check(spatial_scale > 0 && static_cast<double>(image_size) * spatial_scale < (1 << 24), op,
        "spatial_scale must be positive, and image_size * spatial_scale below 2^24 cells");
  return {static_cast<float>(image_size), static_cast<float>(roi_size), static_cast<float>(spatial_scale)};
}

inline JointList joint_list(const char* op, const std::vector<int64_t>& joints, int64_t num_joints) {
  check(!joints.empty() && static_cast<int64_t>(joints.size()) <= JointList::kCapacity, op, "joints must name 1 to ",
        JointList::kCapacity, " joints, got ", static_cast<int64_t>(joints.size()));
  JointList list{};
  list.count = static_cast<int64_t>(joints.size());
  for (size_t i = 0; i < joints.size(); i++) {
    check(joints[i] >= 0 && joints[i] < num_joints, op, "joint ", joints[i], " is outside 0..", num_joints - 1);
    list.joint[i] = static_cast<int32_t>(joints[i]);
  }
  return list;
}

// The arguments that pose_roi_pool, its gradients and the cascade share, as the schemas list them.
struct PoolArguments {
  const char* op;
  const std::vector<int64_t>& joints;
  int64_t output_size, image_size, roi_size;
  double spatial_scale;
  bool align;
  int64_t sampling_ratio;
};

inline RegionPool region_pool(const Tensor& features, const Tensor& pose, const PoolArguments& a) {
  check(features.dim() == 4, a.op, "features must be [B, C, H, W]");
  check(pose.dim() == 3 && pose.size(2) >= 2, a.op, "pose must be [B, J, >=2]");
  check(pose.device() == features.device(), a.op, "features and pose must be on one device");
  check(pose.size(0) == features.size(0), a.op, "features and pose must hold the same number of samples");
  check(features.size(2) > 0 && features.size(3) > 0, a.op, "features must have cells");
  check(a.output_size > 0 && a.sampling_ratio > 0, a.op, "output_size and sampling_ratio must be positive");
  check(a.output_size <= INT32_MAX / a.sampling_ratio, a.op, "output_size * sampling_ratio must be below 2^31");
  RegionPool p{};
  p.batch = features.size(0);
  p.channels = features.size(1);
  p.height = features.size(2);
  p.width = features.size(3);
  p.num_joints = pose.size(1);
  p.num_axes = pose.size(2);
  p.bins = a.output_size;
  p.samples = a.sampling_ratio;
  p.align = a.align;
  p.dtype = dtype_of(a.op, "features", features);
  check(p.dtype == DType::f64 || p.dtype == DType::f32 || p.dtype == DType::f16 || p.dtype == DType::bf16, a.op,
        "features must be floating-point");
  p.pose_dtype = dtype_of(a.op, "pose", pose);
  check(p.pose_dtype == DType::f32 || p.pose_dtype == DType::f64, a.op, "pose must be float32 or float64");
  p.geometry = roi_geometry(a.op, a.image_size, a.roi_size, a.spatial_scale);
  p.joints = joint_list(a.op, a.joints, p.num_joints);
  return p;
}

inline MapStrides map_strides(const Tensor& map) {
  return {map.stride(0), map.stride(1), map.stride(2), map.stride(3)};
}

}  // namespace poseren::ops
