// SPDX-License-Identifier: MIT
// Arguments that the ops on depth images share.
#pragma once

#include <optional>

#include "core/depth_frames.h"
#include "ops/tensor.h"

namespace poseren::ops {

// Views of batches and rows pass as they are; only a tensor whose columns lie apart is copied.
inline Tensor with_adjacent_columns(Tensor tensor) {
  return tensor.size(2) <= 1 || tensor.stride(2) == 1 ? tensor : as_contiguous(tensor);
}

inline DepthFrames depth_frames(const char* op, Tensor& depth) {  // depth [B, H, W]; may be replaced by a copy
  check(depth.dim() == 3, op, "depth must be [B, H, W]");
  const DType dtype = dtype_of(op, "depth", depth);
  check(dtype != DType::f64 && dtype != DType::i8, op, "depth must be uint16, int32, float16, bfloat16 or float32");
  check(depth.size(1) < INT32_MAX && depth.size(2) < INT32_MAX, op, "depth has sides beyond 2^31");
  depth = with_adjacent_columns(depth);
  return {depth.data_ptr(), dtype, depth.size(0), depth.size(1), depth.size(2), depth.stride(0), depth.stride(1)};
}

inline void check_coordinates(const char* op, const char* name, const Tensor& tensor, const std::vector<int64_t>& shape,
                              const Tensor& depth) {
  bool fits = tensor.dim() == static_cast<int64_t>(shape.size());
  for (size_t i = 0; fits && i < shape.size(); i++) fits = tensor.size(i) == shape[i];
  check(fits, op, name, " has a shape that does not fit depth's batch");
  check(tensor.scalar_type() == ScalarType::Float, op, name, " must be float32");
  check(tensor.device() == depth.device(), op, name, " must be on depth's device");
}

// float32 [batch, ...], contiguous.
inline Tensor coordinates(const char* op, const char* name, const Tensor& tensor, const std::vector<int64_t>& shape,
                          const Tensor& depth) {
  check_coordinates(op, name, tensor, shape, depth);
  return as_contiguous(tensor);
}

}  // namespace poseren::ops
