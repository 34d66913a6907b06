// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/isa.h"

namespace poseren::cpu {

// One group of a layer for some samples: output[s][r] = scale[r] * sum over k of weight[r][k] * input[s][k] + bias[r].
// Each sum is taken in one order that depends on the depth alone: a sample's outputs have the same bits in any company.
struct Dense {
  const void* weight;  // [rows, depth], float32, bfloat16 or int8
  const float* scale;  // [rows], or null: 1
  const float* bias;   // [rows]
  DType dtype;
  int64_t depth;
  int64_t samples;
  const float* const* input;  // [samples] rows of [depth]
  float* const* output;       // [samples] rows of [rows]
  bool relu;
};

// The outputs `first` to `last` (half open) of every sample.
template <class Isa>
void dense_rows(const Dense& layer, int64_t first, int64_t last);

}  // namespace poseren::cpu
