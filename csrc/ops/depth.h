// SPDX-License-Identifier: MIT
// Arguments shared by the ops on depth images.
#pragma once

#include "core/dtype.h"
#include "ops/tensor.h"

namespace poseren::ops {

// Strided batches and rows are used as they are; a tensor is copied only if its columns are not adjacent.
inline Tensor with_adjacent_columns(const char* op, const Tensor& tensor) {
  return tensor.size(2) <= 1 || tensor.stride(2) == 1 ? tensor : as_contiguous(op, tensor);
}

inline DepthFrames depth_frames(const char* op, Tensor& depth) {  // depth [B, H, W]; may be replaced by a copy
  check(depth.dim() == 3, op, "depth must be [B, H, W]");
  const DType dtype = dtype_of(op, "depth", depth);
  check(dtype != DType::f64 && dtype != DType::i8, op, "depth must be uint16, int32, float16, bfloat16 or float32");
  check(depth.size(1) < INT32_MAX && depth.size(2) < INT32_MAX, op, "the height and width of depth must be below 2^31");
  depth = with_adjacent_columns(op, depth);
  return {depth.data_ptr(), dtype, depth.size(0), depth.size(1), depth.size(2), depth.stride(0), depth.stride(1)};
}

inline void check_coordinates(const char* op, const char* name, const Tensor& tensor, const Shape& shape,
                              const Tensor& depth) {
  check(has_shape(tensor, shape), op, name, " must have shape ", shape, " for this depth");
  check(tensor.scalar_type() == ScalarType::Float, op, name, " must be float32");
  check(tensor.device() == depth.device(), op, name, " must be on the device of depth");
}

// float32 [batch, ...], contiguous.
inline Tensor coordinates(const char* op, const char* name, const Tensor& tensor, const Shape& shape,
                          const Tensor& depth) {
  check_coordinates(op, name, tensor, shape, depth);
  return as_contiguous(op, tensor);
}

}  // namespace poseren::ops
