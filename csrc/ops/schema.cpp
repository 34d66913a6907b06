// SPDX-License-Identifier: MIT
// The schemas of all ops. poseren_ext/ops documents them; poseren_ext/ops/_registrations adds what the stable ABI
// does not have: fake tensors, autograd, autocast and vmap. Sizes and indices are SymInt, so that torch.compile does
// not recompile for each value; the kernels receive int64_t.
#include "ops/tensor.h"

STABLE_TORCH_LIBRARY(POSEREN_NAMESPACE, m) {
  // depth [B,H,W], mask [B,H,W] bool, camera [B,4], cube [B,3] -> center [B,3] (u, v px, d mm), count int64 [B]
  m.def(
      "hand_center(Tensor depth, Tensor? mask, Tensor? camera, Tensor? cube, float near, float far, float depth_unit, "
      "SymInt iterations) -> (Tensor, Tensor)");
  // depth [B,H,W], center [B,3], camera [B,4], cube [B,3], transform [B,2,3] -> crop [B,1,S,S]
  // invalid: 0 keeps stored values, 1 replaces by the background, 2 by invalid_value (mm)
  m.def(
      "depth_crop(Tensor depth, Tensor center, Tensor camera, Tensor cube, Tensor? transform, SymInt size, int "
      "invalid, "
      "float invalid_value, bool nearest, float depth_unit, ScalarType dtype) -> Tensor");
  // -> gradient of depth, float32 [B,H,W]
  m.def(
      "depth_crop_backward(Tensor grad, Tensor depth, Tensor center, Tensor camera, Tensor cube, Tensor? transform, "
      "int invalid, float invalid_value, bool nearest, float depth_unit) -> Tensor");
  // pose [B,J,D] float32 -> int32 [B,M,4]
  m.def("roi_windows(Tensor pose, SymInt[] joints, SymInt image_size, SymInt roi_size, float spatial_scale) -> Tensor");
  // features [B,C,H,W], pose [B,J,D] float32 or float64 -> [B,M,C,P,P]
  m.def(
      "pose_roi_pool(Tensor features, Tensor pose, SymInt[] joints, SymInt output_size, SymInt image_size, "
      "SymInt roi_size, float spatial_scale, bool align, SymInt sampling_ratio) -> Tensor");
  // grad [B,M,C,P,P] -> [B,C,H,W]
  m.def(
      "pose_roi_pool_feature_grad(Tensor grad, Tensor features, Tensor pose, SymInt[] joints, SymInt output_size, "
      "SymInt image_size, SymInt roi_size, float spatial_scale, bool align, SymInt sampling_ratio) -> Tensor");
  // grad [B,M,C,P,P] of mode align -> [B,J,D]
  m.def(
      "pose_roi_pool_pose_grad(Tensor grad, Tensor features, Tensor pose, SymInt[] joints, SymInt output_size, "
      "SymInt image_size, SymInt roi_size, float spatial_scale, SymInt sampling_ratio) -> Tensor");
  // features [B,C,H,W] and pose [B,J,3] float32; tree: F fingers of K regions each, flat. Weights float32, bfloat16 or
  // int8 with a float32 scale per row: region_weight [M,W1,C*P*P], finger_weight [F,W2,K*W1], pose_weight [3J,F*W2];
  // scales and biases float32 [M,W1], [F,W2], [3J] -> poses [T+1,B,J,3], stages_run int32 [B]
  m.def(
      "cascade_refine(Tensor features, Tensor pose, SymInt[] joints, int[] tree, "
      "Tensor region_weight, Tensor? region_scale, Tensor region_bias, "
      "Tensor finger_weight, Tensor? finger_scale, Tensor finger_bias, "
      "Tensor pose_weight, Tensor? pose_scale, Tensor pose_bias, "
      "SymInt output_size, SymInt image_size, SymInt roi_size, float spatial_scale, bool align, SymInt sampling_ratio, "
      "SymInt stages) -> (Tensor, Tensor)");
}
