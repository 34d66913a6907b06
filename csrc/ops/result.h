// SPDX-License-Identifier: MIT
// Tensors that ops return.
#pragma once

#include <optional>
#include <type_traits>
#include <vector>

#include "core/queue.h"
#include "cpu/kept_memory.h"
#include "ops/tensor.h"

namespace poseren::ops {

// Under AddressSanitizer every result comes from torch, between red zones.
#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kKeepsMemory = false;
#else
inline constexpr bool kKeepsMemory = true;
#endif

// A contiguous tensor in memory that is kept when the tensor is gone.
inline Tensor kept_tensor(const std::vector<int64_t>& sizes, ScalarType dtype, int64_t bytes) {
  std::vector<int64_t> strides(sizes.size(), 1);
  for (size_t i = sizes.size() - 1; i > 0; i--) strides[i - 1] = strides[i] * sizes[i];
  const torch::stable::Device device(torch::headeronly::DeviceType::CPU);
  return torch::stable::from_blob(cpu::take_memory(bytes), sizes, strides, device, dtype,
                                  [bytes](void* place) { cpu::give_memory(place, bytes); });
}

// A contiguous tensor of any values, on the device of `like` and of its type unless one is named.
template <class Queue>
Tensor new_result(const Tensor& like, const std::vector<int64_t>& sizes, std::optional<ScalarType> dtype = {}) {
  if constexpr (kKeepsMemory && std::is_same_v<Queue, cpu::Queue>) {
    using torch::stable::detail::from, torch::stable::detail::to;
    const ScalarType type = dtype.value_or(like.scalar_type());
    int64_t bytes = static_cast<int64_t>(aoti_torch_dtype_element_size(to<int32_t>(from(type))));
    for (int64_t size : sizes) bytes *= size;
    if (cpu::keeps(bytes)) return kept_tensor(sizes, type, bytes);
  }
  return torch::stable::new_empty(like, sizes, dtype);
}

}  // namespace poseren::ops
