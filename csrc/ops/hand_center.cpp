// SPDX-License-Identifier: MIT
#include "core/kernels.h"
#include "ops/depth.h"
#include "ops/device.h"

namespace poseren::ops {

template <class Queue>
std::tuple<Tensor, Tensor> hand_center(Tensor depth, std::optional<Tensor> mask, std::optional<Tensor> camera,
                                       std::optional<Tensor> cube, double near, double far, double depth_unit,
                                       int64_t iterations) {
  const char* op = "hand_center";
  HandCenter p{};
  p.depth = depth_frames(op, depth);
  const int64_t batch = p.depth.batch;
  if (mask) {
    check(has_shape(*mask, depth.sizes().vec()) && mask->scalar_type() == ScalarType::Bool, op,
          "mask must be bool and have the shape of depth");
    check(mask->device() == depth.device(), op, "mask must be on the device of depth");
    mask = with_adjacent_columns(op, *mask);
    p.mask = data<const uint8_t>(*mask);
    p.mask_frame_stride = mask->stride(0);
    p.mask_row_stride = mask->stride(1);
  }
  if (iterations > 0) {
    check(camera && cube, op, "iterations need camera and cube");
    camera = coordinates(op, "camera", *camera, {batch, 4}, depth);
    cube = coordinates(op, "cube", *cube, {batch, 3}, depth);
    p.camera = data<const float>(*camera);
    p.cube = data<const float>(*cube);
  }
  p.near = static_cast<float>(near);
  p.far = static_cast<float>(far);
  p.unit = depth_unit;
  p.iterations = iterations;
  const DeviceScope<Queue> device(depth);
  Tensor center = new_tensor(op, depth, {batch, 3}, ScalarType::Float);
  Tensor count = new_tensor(op, depth, {batch}, ScalarType::Long);
  std::optional<Tensor> scratch;
  if (const int64_t bytes = scratch_bytes(p, device.queue())) {
    scratch = new_tensor(op, depth, {bytes}, ScalarType::Byte);
    p.scratch = scratch->data_ptr();
  }
  p.center = data<float>(center);
  p.count = data<int64_t>(count);
  run(p, device.queue());
  return {center, count};
}

}  // namespace poseren::ops

POSEREN_REGISTER(hand_center)
