// SPDX-License-Identifier: MIT
#include <algorithm>
#include <optional>
#include <tuple>

#include "core/kernels.h"
#include "ops/device.h"
#include "ops/roi.h"

namespace poseren::ops {
namespace {

constexpr const char* kOp = "cascade_refine";

// A layer's tensors, made contiguous; they must outlive the layer.
struct LayerTensors {
  Tensor weight, bias;
  std::optional<Tensor> scale;
};

LayerTensors layer_tensors(const char* name, const Tensor& weight, const std::optional<Tensor>& scale,
                           const Tensor& bias, const Tensor& features) {
  check(weight.device() == features.device() && bias.device() == features.device(), kOp, name,
        " weights must be on the device of features");
  check(bias.scalar_type() == ScalarType::Float, kOp, name, " bias must be float32");
  const bool packed = weight.scalar_type() == ScalarType::Char;
  check(packed == scale.has_value(), kOp, name, " weights need a scale if they are int8, and must have none otherwise");
  LayerTensors tensors{as_contiguous(kOp, weight), as_contiguous(kOp, bias), std::nullopt};
  if (scale) {
    check(scale->scalar_type() == ScalarType::Float && scale->device() == features.device(), kOp, name,
          " scale must be float32 and on the device of features");
    tensors.scale = as_contiguous(kOp, *scale);
  }
  return tensors;
}

// The last layer has a single group and no dimension for it.
HeadLayer head_layer(const char* name, const LayerTensors& tensors, int64_t groups, int64_t depth, bool one_group) {
  const Tensor& weight = tensors.weight;
  check(weight.dim() == (one_group ? 2 : 3), kOp, name,
        one_group ? " weight must have 2 dimensions" : " weight must have 3 dimensions");
  const int64_t rows = weight.size(one_group ? 0 : 1);
  const Shape outer = one_group ? Shape{rows} : Shape{groups, rows};
  Shape full = outer;
  full.push_back(depth);
  check(rows > 0 && depth > 0 && has_shape(weight, full), kOp, name, " weight must have shape ", full);
  check(has_shape(tensors.bias, outer), kOp, name, " bias must have shape ", outer);
  check(!tensors.scale || has_shape(*tensors.scale, outer), kOp, name, " scale must have shape ", outer);
  const float* scale = tensors.scale ? data<const float>(*tensors.scale) : nullptr;
  return {weight.data_ptr(), scale, data<const float>(tensors.bias), groups, rows, depth};
}

FingerTree finger_tree(const std::vector<int64_t>& regions, int64_t fingers, int64_t num_regions) {
  const int64_t slots = static_cast<int64_t>(regions.size());
  check(fingers > 0 && slots > 0 && slots % fingers == 0, kOp, "tree must list the regions of each of ", fingers,
        " fingers");
  check(slots <= FingerTree::kCapacity, kOp, "tree may list ", FingerTree::kCapacity, " regions, got ", slots);
  FingerTree tree{};
  tree.fingers = fingers;
  tree.members = slots / fingers;
  for (int64_t i = 0; i < slots; i++) {
    check(regions[i] >= 0 && regions[i] < num_regions, kOp, "tree's region ", regions[i], " is outside 0..",
          num_regions - 1);
    tree.region[i] = static_cast<int16_t>(regions[i]);
  }
  return tree;
}

}  // namespace

template <class Queue>
std::tuple<Tensor, Tensor> cascade_refine(Tensor features, Tensor pose, std::vector<int64_t> joints,
                                          std::vector<int64_t> tree, Tensor region_weight,
                                          std::optional<Tensor> region_scale, Tensor region_bias, Tensor finger_weight,
                                          std::optional<Tensor> finger_scale, Tensor finger_bias, Tensor pose_weight,
                                          std::optional<Tensor> pose_scale, Tensor pose_bias, int64_t output_size,
                                          int64_t image_size, int64_t roi_size, double spatial_scale, bool align,
                                          int64_t sampling_ratio, int64_t stages) {
  check(features.scalar_type() == ScalarType::Float, kOp, "features must be float32");
  check(pose.dim() == 3 && pose.size(2) == 3 && pose.scalar_type() == ScalarType::Float, kOp,
        "pose must be float32 [B, J, 3]");
  check(stages >= 0 && stages < INT64_MAX, kOp, "stages must not be negative");
  CascadeRefine p{};
  p.pool = region_pool(features, pose,
                       {kOp, joints, output_size, image_size, roi_size, spatial_scale, align, sampling_ratio});
  pose = as_contiguous(kOp, pose);

  const LayerTensors region = layer_tensors("region", region_weight, region_scale, region_bias, features);
  const LayerTensors finger = layer_tensors("finger", finger_weight, finger_scale, finger_bias, features);
  const LayerTensors joint = layer_tensors("pose", pose_weight, pose_scale, pose_bias, features);
  p.weight_dtype = dtype_of(kOp, "region_weight", region.weight);
  check(p.weight_dtype == DType::f32 || p.weight_dtype == DType::bf16 || p.weight_dtype == DType::i8, kOp,
        "weights must be float32, bfloat16 or int8");
  check(finger.weight.scalar_type() == region.weight.scalar_type() &&
            joint.weight.scalar_type() == region.weight.scalar_type(),
        kOp, "all weights must have the same dtype");
  const RegionPool& pool = p.pool;
  const int64_t depth = product(kOp, {pool.channels, pool.bins, pool.bins});
  p.region = head_layer("region", region, pool.joints.count, depth, false);
  p.tree = finger_tree(tree, finger.weight.dim() ? finger.weight.size(0) : 0, pool.joints.count);
  p.finger = head_layer("finger", finger, p.tree.fingers, p.tree.members * p.region.rows, false);
  p.joint = head_layer("pose", joint, 1, p.tree.fingers * p.finger.rows, true);
  check(p.joint.rows == pool.num_joints * 3, kOp, "pose weight must have 3 rows for each of the pose's joints");
  p.stages = stages;
  // The scratch memory for a block of samples must not overflow 64 bits.
  for (const HeadLayer* layer : {&p.region, &p.finger, &p.joint})
    check(product(kOp, {layer->groups, std::max(layer->rows, layer->depth)}) < int64_t{1} << 40, kOp,
          "the head is too large");

  const DeviceScope<Queue> device(features);
  Tensor poses = new_tensor(kOp, features, {stages + 1, pool.batch, pool.num_joints, 3});
  Tensor stages_run = new_tensor(kOp, features, {pool.batch}, ScalarType::Int);
  if (pool.batch == 0) return {poses, stages_run};
  Tensor scratch = new_tensor(kOp, features, {scratch_bytes(p, device.queue())}, ScalarType::Byte);
  p.features = data<const float>(features);
  p.strides = map_strides(features);
  p.pose = data<const float>(pose);
  p.poses = data<float>(poses);
  p.stages_run = data<int32_t>(stages_run);
  p.scratch = scratch.data_ptr();
  run(p, device.queue());
  return {poses, stages_run};
}

}  // namespace poseren::ops

POSEREN_REGISTER(cascade_refine)
