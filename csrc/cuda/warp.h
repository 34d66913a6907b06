// SPDX-License-Identifier: MIT
// Sums over a warp, in an order that is always the same.
#pragma once

#include "cuda/launch.h"

namespace poseren::cuda {

inline constexpr int kWarp = 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

// Folds by halves: lane l takes lane l + 16, then l + 8, ... The sum is lane 0's.
template <class T>
__device__ inline T fold_warp(T value) {
  for (int half = kWarp / 2; half > 0; half /= 2) value += __shfl_down_sync(kAllLanes, value, half);
  return value;
}

// The same for kCount values at once, a power of two up to 32: lane l ends up with the sum of value l * kCount / 32.
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
