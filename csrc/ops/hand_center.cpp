// SPDX-License-Identifier: MIT
#include "cpu/hand_center.h"

#include "cuda/hand_center.h"
#include "ops/depth.h"
#include "ops/device.h"
#include "ops/result.h"

namespace poseren::ops {

template <class Queue>
std::tuple<Tensor, Tensor> hand_center(Tensor depth, std::optional<Tensor> mask, std::optional<Tensor> camera,
                                       std::optional<Tensor> cube, double near, double far, double depth_unit,
                                       int64_t iterations) {
  const char* op = "hand_center";
  HandCenter body{};
  body.depth = depth_frames(op, depth);
  const int64_t batch = body.depth.batch;
  if (mask) {
    check(mask->dim() == 3 && mask->size(0) == batch && mask->size(1) == body.depth.height &&
              mask->size(2) == body.depth.width && mask->scalar_type() == ScalarType::Bool,
          op, "mask must be bool, of depth's shape");
    check(mask->device() == depth.device(), op, "mask must be on depth's device");
    mask = with_adjacent_columns(*mask);
    body.mask = data<const uint8_t>(*mask);
    body.mask_frame_stride = mask->stride(0);
    body.mask_row_stride = mask->stride(1);
  }
  if (iterations > 0) {
    check(camera && cube, op, "iterations need camera and cube");
    camera = coordinates(op, "camera", *camera, {batch, 4}, depth);
    cube = coordinates(op, "cube", *cube, {batch, 3}, depth);
    body.camera = data<const float>(*camera);
    body.cube = data<const float>(*cube);
  }
  body.near = static_cast<float>(near);
  body.far = static_cast<float>(far);
  body.unit = depth_unit;
  body.iterations = iterations;
  On<Queue> device(depth);
  Tensor center = new_result<Queue>(depth, {batch, 3}, ScalarType::Float);
  Tensor count = new_result<Queue>(depth, {batch}, ScalarType::Long);
  std::optional<Tensor> scratch;
  if (const int64_t bytes = scratch_bytes(body, device.queue())) {
    scratch = new_result<Queue>(depth, {bytes}, ScalarType::Byte);
    body.scratch = scratch->data_ptr();
  }
  body.center = data<float>(center);
  body.count = data<int64_t>(count);
  run(body, device.queue());
  return {center, count};
}

}  // namespace poseren::ops

POSEREN_REGISTER(hand_center)
