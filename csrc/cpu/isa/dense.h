// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "cpu/isa.h"

namespace poseren::cpu {

// Products of weight rows with some samples: output[s][r] = sum over k of weight[r][k] * input[s][k].
// Each sum is taken in one order that depends on the depth alone: a sample's outputs have the same bits in any company.
struct Dense {
  const void* weight;  // [rows, depth], float32, bfloat16 or int8
  int64_t row_stride;  // weights
  DType dtype;
  int64_t depth;
  int64_t samples;
  const float* const* input;  // [samples] rows of [depth]
  float* const* output;       // [samples] rows of [rows]
};

// The outputs `first` to `last` (half open) of every sample.
template <class Isa>
void dense_rows(const Dense& layer, int64_t first, int64_t last);

}  // namespace poseren::cpu
