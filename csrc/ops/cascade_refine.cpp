// SPDX-License-Identifier: MIT
#include "cpu/cascade.h"

#include <optional>
#include <tuple>

#include "cuda/cascade.h"
#include "ops/device.h"
#include "ops/result.h"
#include "ops/roi.h"

namespace poseren::ops {
namespace {

constexpr const char* kOp = "cascade_refine";

bool has_shape(const Tensor& tensor, const std::vector<int64_t>& shape) {
  bool same = tensor.dim() == static_cast<int64_t>(shape.size());
  for (size_t i = 0; same && i < shape.size(); i++) same = tensor.size(static_cast<int64_t>(i)) == shape[i];
  return same;
}

// A layer's tensors, made contiguous; they must outlive the layer.
struct LayerTensors {
  Tensor weight, bias;
  std::optional<Tensor> scale;
};

LayerTensors layer_tensors(const char* name, const Tensor& weight, const std::optional<Tensor>& scale,
                           const Tensor& bias, const Tensor& features) {
  check(weight.device() == features.device() && bias.device() == features.device(), kOp, name,
        " weights must be on the features' device");
  check(bias.scalar_type() == ScalarType::Float, kOp, name, " bias must be float32");
  const bool packed = weight.scalar_type() == ScalarType::Char;
  check(packed == scale.has_value(), kOp, name, " weights have a scale exactly if they are int8");
  LayerTensors tensors{as_contiguous(weight), as_contiguous(bias), std::nullopt};
  if (scale) {
    check(scale->scalar_type() == ScalarType::Float && scale->device() == features.device(), kOp, name,
          " scale must be float32, on the features' device");
    tensors.scale = as_contiguous(*scale);
  }
  return tensors;
}

// The last layer has one group and no axis for it.
HeadLayer head_layer(const char* name, const LayerTensors& tensors, int64_t groups, int64_t depth, bool one_group) {
  const Tensor& weight = tensors.weight;
  check(weight.dim() == (one_group ? 2 : 3), kOp, name, " weight has another number of axes");
  const int64_t rows = weight.size(one_group ? 0 : 1);
  const std::vector<int64_t> outer = one_group ? std::vector<int64_t>{rows} : std::vector<int64_t>{groups, rows};
  std::vector<int64_t> full = outer;
  full.push_back(depth);
  check(rows > 0 && depth > 0 && has_shape(weight, full), kOp, name, " weight has a shape that does not fit the head");
  check(has_shape(tensors.bias, outer), kOp, name, " bias has a shape that does not fit its weight");
  check(!tensors.scale || has_shape(*tensors.scale, outer), kOp, name, " scale has a shape that does not fit");
  const float* scale = tensors.scale ? data<const float>(*tensors.scale) : nullptr;
  return {weight.data_ptr(), scale, data<const float>(tensors.bias), groups, rows, depth};
}

FingerTree finger_tree(const std::vector<int64_t>& regions, int64_t fingers, int64_t num_regions) {
  const int64_t slots = static_cast<int64_t>(regions.size());
  check(fingers > 0 && slots > 0 && slots % fingers == 0, kOp, "tree must list the regions of ", fingers, " fingers");
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
  check(features.dim() == 4 && features.scalar_type() == ScalarType::Float, kOp,
        "features must be float32 [B, C, H, W]");
  check(features.size(2) > 0 && features.size(3) > 0, kOp, "features must have cells");
  check(pose.dim() == 3 && pose.size(2) == 3 && pose.scalar_type() == ScalarType::Float, kOp,
        "pose must be float32 [B, J, 3]");
  check(pose.size(0) == features.size(0), kOp, "features and pose must hold the same number of samples");
  check(pose.device() == features.device(), kOp, "features and pose must be on one device");
  check(output_size > 0 && sampling_ratio > 0 && stages >= 0, kOp,
        "output_size and sampling_ratio must be positive, stages not negative");
  pose = as_contiguous(pose);

  CascadeRefine op{};
  RegionPool& p = op.pool;
  p.batch = features.size(0);
  p.channels = features.size(1);
  p.height = features.size(2);
  p.width = features.size(3);
  p.num_joints = pose.size(1);
  p.num_axes = 3;
  p.bins = output_size;
  p.samples = sampling_ratio;
  p.align = align;
  p.dtype = p.pose_dtype = DType::f32;
  p.geometry = roi_geometry(kOp, image_size, roi_size, spatial_scale);
  p.joints = joint_list(kOp, joints, p.num_joints);

  const LayerTensors region = layer_tensors("region", region_weight, region_scale, region_bias, features);
  const LayerTensors finger = layer_tensors("finger", finger_weight, finger_scale, finger_bias, features);
  const LayerTensors joint = layer_tensors("pose", pose_weight, pose_scale, pose_bias, features);
  op.weight_dtype = dtype_of(kOp, "region_weight", region.weight);
  check(op.weight_dtype == DType::f32 || op.weight_dtype == DType::bf16 || op.weight_dtype == DType::i8, kOp,
        "weights must be float32, bfloat16 or int8");
  check(finger.weight.scalar_type() == region.weight.scalar_type() &&
            joint.weight.scalar_type() == region.weight.scalar_type(),
        kOp, "all weights must be of one type");
  op.region = head_layer("region", region, p.joints.count, p.channels * p.bins * p.bins, false);
  op.tree = finger_tree(tree, finger.weight.size(0), p.joints.count);
  op.finger = head_layer("finger", finger, op.tree.fingers, op.tree.members * op.region.rows, false);
  op.joint = head_layer("pose", joint, 1, op.tree.fingers * op.finger.rows, true);
  check(op.joint.rows == p.num_joints * 3, kOp, "pose weight must have 3 rows for each of the pose's joints");
  op.stages = stages;

  On<Queue> device(features);
  Tensor poses = new_result<Queue>(features, {stages + 1, p.batch, p.num_joints, 3});
  Tensor stages_run = new_result<Queue>(features, {p.batch}, ScalarType::Int);
  if (p.batch == 0) return {poses, stages_run};
  Tensor scratch = new_result<Queue>(features, {scratch_bytes(op, device.queue())}, ScalarType::Byte);
  op.features = data<const float>(features);
  op.strides = {features.stride(0), features.stride(1), features.stride(2), features.stride(3)};
  op.pose = data<const float>(pose);
  op.poses = data<float>(poses);
  op.stages_run = data<int32_t>(stages_run);
  op.scratch = scratch.data_ptr();
  run(op, device.queue());
  return {poses, stages_run};
}

}  // namespace poseren::ops

POSEREN_REGISTER(cascade_refine)
