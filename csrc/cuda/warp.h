// SPDX-License-Identifier: MIT
// 16-byte loads and stores of a thread, and sums over a warp in a fixed order.
#pragma once

#include "core/number.h"
#include "cuda/launch.h"

namespace poseren::cuda {

// Sixteen bytes: the widest load and store of a thread.
template <class T>
struct alignas(16) Pack {
  static constexpr int kSize = 16 / sizeof(T);
  T value[kSize];
};

// The number of elements from `address` to the next 16-byte boundary.
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

// A streaming load, for memory that the kernel does not write and does not read again soon.
template <class T>
__device__ inline Pack<T> load_pack_once(const T* address) {  // 16-byte aligned
  return bit_cast<Pack<T>>(__ldcs(reinterpret_cast<const uint4*>(address)));
}

template <class T>
__device__ inline void store_pack(T* address, const Pack<T>& pack) {  // 16-byte aligned
  *reinterpret_cast<uint4*>(address) = bit_cast<uint4>(pack);
}

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

// Tree reduction: lane l adds lane l + 16, then l + 8, ... Lane 0 gets the sum.
template <class T>
__device__ inline T fold_warp(T value) {
  for (int half = kWarp / 2; half > 0; half /= 2) value += __shfl_down_sync(kAllLanes, value, half);
  return value;
}

// The same for kCount values at once, a power of two up to 32: lane l gets the sum of value l * kCount / 32.
// Each step halves the values that a lane keeps, not only the lanes: 31 shuffles for 32 values.
template <int kCount, int kHalf = kWarp / 2, class T, int kSize>
__device__ inline T fold_each(T (&values)[kSize]) {
  if constexpr (kCount > 1) {
    constexpr int kKept = kCount / 2;
    const bool upper = threadIdx.x & kHalf;
#pragma unroll
    for (int i = 0; i < kKept; i++) {
      const T mine = upper ? values[i + kKept] : values[i], other = upper ? values[i] : values[i + kKept];
      values[i] = mine + __shfl_xor_sync(kAllLanes, other, kHalf);
    }
    return fold_each<kKept, kHalf / 2>(values);
  } else {
    for (int half = kHalf; half > 0; half /= 2) values[0] += __shfl_xor_sync(kAllLanes, values[0], half);
    return values[0];
  }
}

}  // namespace poseren::cuda
