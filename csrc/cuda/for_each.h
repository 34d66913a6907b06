// SPDX-License-Identifier: MIT
// Runs a functor of core once for each item, an item a thread.
#pragma once

#include "cuda/launch.h"

namespace poseren::cuda {

inline constexpr int kForEachThreads = 128;

template <class Body>
__global__ void __launch_bounds__(kForEachThreads) for_each_item(const Body body, int64_t count) {
  const int64_t stride = int64_t{gridDim.x} * blockDim.x;
  for (int64_t i = int64_t{blockIdx.x} * blockDim.x + threadIdx.x; i < count; i += stride) body(i);
}

// body(i) for every i in [0, count).
template <class Body>
void for_each(const Body& body, int64_t count, void* stream) {
  launch<for_each_item<Body>>({.grid = blocks(count, kForEachThreads), .block = kForEachThreads, .stream = stream},
                              body, count);
}

}  // namespace poseren::cuda
