// SPDX-License-Identifier: MIT
// Helpers between torch's stable tensors and the plain structs of core.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

#include "core/dtype.h"

// The hostsim build compiles the same files with the CUDA kernels running on the CPU, in a namespace of its own.
#ifdef POSEREN_HOSTSIM
#define POSEREN_NAMESPACE poseren_hostsim
#else
#define POSEREN_NAMESPACE poseren
#endif

namespace poseren::ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;
using Shape = std::vector<int64_t>;

inline std::string text(const char* words) {
  return words;
}
inline std::string text(int64_t number) {
  return std::to_string(number);
}
inline std::string text(const Shape& shape) {
  std::string list;
  for (int64_t size : shape) list += (list.empty() ? "" : ", ") + text(size);
  return "[" + list + "]";
}

// The Python functions validate with detailed messages; this protects direct callers of torch.ops. Streams are avoided:
// next to the C++ runtime of a CUDA build of torch their locale is null.
template <class... Parts>
void check(bool condition, const char* op, const Parts&... parts) {
  if (condition) return;
  throw std::runtime_error(("poseren::" + text(op) + ": " + ... + text(parts)));
}

// The number of elements, or of bytes, of a tensor. Throws if it does not fit in 64 bits.
inline int64_t product(const char* op, const Shape& shape, int64_t element_bytes = 1) {
  int64_t result = element_bytes;
  for (int64_t size : shape)
    check(!__builtin_mul_overflow(result, size, &result), op, "the size of a tensor of shape ", shape,
          " does not fit in 64 bits");
  return result;
}

inline bool has_shape(const Tensor& tensor, const Shape& shape) {
  bool same = tensor.dim() == static_cast<int64_t>(shape.size());
  for (size_t i = 0; same && i < shape.size(); i++) same = tensor.size(static_cast<int64_t>(i)) == shape[i];
  return same;
}

// allocate(), which makes a tensor of this shape. torch's C interface drops the message of a failed allocation.
template <class Allocate>
Tensor allocate_tensor(const char* op, const Tensor& like, const Shape& shape, std::optional<ScalarType> dtype,
                       const Allocate& allocate) {
  using torch::stable::detail::from, torch::stable::detail::to;
  const auto type = to<int32_t>(from(dtype.value_or(like.scalar_type())));
  const int64_t bytes = product(op, shape, static_cast<int64_t>(aoti_torch_dtype_element_size(type)));
  try {
    return allocate();
  } catch (const std::exception&) {
    check(false, op, "out of memory: tried to allocate ", bytes, " bytes (", bytes >> 20, " MiB) on the ",
          like.is_cuda() ? "GPU" : "CPU", " for a tensor of shape ", shape);
    throw;
  }
}

// An uninitialised contiguous tensor on the device of `like`, of its dtype unless another is named.
inline Tensor new_tensor(const char* op, const Tensor& like, const Shape& shape, std::optional<ScalarType> dtype = {}) {
  return allocate_tensor(op, like, shape, dtype, [&] { return torch::stable::new_empty(like, shape, dtype); });
}

// torch::stable::contiguous always goes through the dispatcher; skip it when the tensor is contiguous already.
inline Tensor as_contiguous(const char* op, const Tensor& tensor) {
  if (tensor.is_contiguous()) return tensor;
  return allocate_tensor(op, tensor, tensor.sizes().vec(), {}, [&] { return torch::stable::contiguous(tensor); });
}

template <class T>
T* data(const Tensor& tensor) {
  return static_cast<T*>(tensor.data_ptr());
}

inline DType dtype_of(const char* op, const char* name, const Tensor& tensor) {
  switch (tensor.scalar_type()) {
    case ScalarType::Double:
      return DType::f64;
    case ScalarType::Float:
      return DType::f32;
    case ScalarType::Half:
      return DType::f16;
    case ScalarType::BFloat16:
      return DType::bf16;
    case ScalarType::Int:
      return DType::i32;
    case ScalarType::UInt16:
      return DType::u16;
    case ScalarType::Char:
      return DType::i8;
    default:
      check(false, op, name, " has a dtype that this op does not support");
      return DType::f32;
  }
}

}  // namespace poseren::ops
