// SPDX-License-Identifier: MIT
// Sixteen bytes at a time: the widest load and store of one thread.
#pragma once

#include "core/number.h"
#include "cuda/launch.h"

namespace poseren::cuda {

template <class T>
struct alignas(16) Pack {
  static constexpr int kSize = 16 / sizeof(T);
  T value[kSize];
};

// From `address` to the next 16-byte boundary.
template <class T>
__host__ __device__ inline int64_t elements_to_boundary(const T* address) {
  return static_cast<int64_t>((16 - reinterpret_cast<uintptr_t>(address) % 16) % 16 / sizeof(T));
}

template <class T>
__host__ __device__ inline bool is_aligned(const T* address) {
  return reinterpret_cast<uintptr_t>(address) % 16 == 0;
}

template <class T>
__device__ inline Pack<T> load_pack(const T* address) {  // 16-byte aligned
  return bit_cast<Pack<T>>(*reinterpret_cast<const uint4*>(address));
}

// Of memory that nobody changes meanwhile and that is not read again soon.
template <class T>
__device__ inline Pack<T> load_pack_once(const T* address) {  // 16-byte aligned
  return bit_cast<Pack<T>>(__ldcs(reinterpret_cast<const uint4*>(address)));
}

template <class T>
__device__ inline void store_pack(T* address, const Pack<T>& pack) {  // 16-byte aligned
  *reinterpret_cast<uint4*>(address) = bit_cast<uint4>(pack);
}

}  // namespace poseren::cuda
