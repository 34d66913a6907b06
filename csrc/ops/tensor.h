// SPDX-License-Identifier: MIT
// The few helpers between torch's stable tensors and the plain structs of core.
#pragma once

#include <torch/csrc/stable/library.h>
#include <torch/csrc/stable/ops.h>
#include <torch/csrc/stable/tensor.h>
#include <torch/headeronly/core/ScalarType.h>

#include <cstdint>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "core/dtype.h"
#include "core/roi_window.h"

// The test-only build runs the same files with the CUDA kernels on the CPU, under a namespace of its own.
#ifdef POSEREN_HOSTSIM
#define POSEREN_NAMESPACE poseren_hostsim
#else
#define POSEREN_NAMESPACE poseren
#endif

namespace poseren::ops {

using torch::headeronly::ScalarType;
using torch::stable::Tensor;

inline std::string text(const char* words) {
  return words;
}
inline std::string text(int64_t number) {
  return std::to_string(number);
}

// Python validates with messages for people; this is the net beneath it for callers of torch.ops. No stream writes the
// numbers: beside the C++ runtime that a CUDA build of torch brings along, its locale is null.
template <class... Parts>
void check(bool condition, const char* op, const Parts&... parts) {
  if (condition) return;
  throw std::runtime_error(("poseren::" + text(op) + ": " + ... + text(parts)));
}

// torch's own looks for an operator by its name before it finds that there is nothing to do.
inline Tensor as_contiguous(const Tensor& tensor) {
  return tensor.is_contiguous() ? tensor : torch::stable::contiguous(tensor);
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
      check(false, op, name, " has a type that this op does not take");
      return DType::f32;
  }
}

inline JointList joint_list(const char* op, const std::vector<int64_t>& joints, int64_t num_joints) {
  check(!joints.empty() && static_cast<int64_t>(joints.size()) <= JointList::kCapacity, op, "joints must name 1 to ",
        JointList::kCapacity, " joints, got ", joints.size());
  JointList list{};
  list.count = static_cast<int64_t>(joints.size());
  for (size_t i = 0; i < joints.size(); i++) {
    check(joints[i] >= 0 && joints[i] < num_joints, op, "joint ", joints[i], " is outside 0..", num_joints - 1);
    list.joint[i] = static_cast<int32_t>(joints[i]);
  }
  return list;
}

}  // namespace poseren::ops
