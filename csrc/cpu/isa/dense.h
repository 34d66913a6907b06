// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/isa.h"

namespace poseren::cpu {

constexpr int64_t kPartDepth = 1056;  // 17 KB of four rows of floats; a third of the published network's first layer

// Products of weight rows with some samples: output[s][r] = sum over k of weight[r][k] * input[s][k].
// Each sum is taken in one order that depends on the depth alone: a sample's outputs have the same bits in any company.
struct Dense {
  const void* weight;  // [rows, depth], float32, bfloat16 or int8
  int64_t row_stride;  // weights
  DType dtype;
  int64_t depth;
  int64_t part;  // of the depth, taken for many samples before the next: a multiple of 16, or all of it
  int64_t samples;
  const float* const* input;  // [samples] rows of [depth]
  float* const* output;       // [samples] rows of [rows]
};

// The outputs `first` to `last` (half open) of every sample.
template <class Isa>
void dense_rows(const Dense& layer, int64_t first, int64_t last);

}  // namespace poseren::cpu
