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

}  // namespace poseren::cuda
