// SPDX-License-Identifier: MIT
// int8 weights multiplied in integers (AVX-512 VNNI, x86 only): an input is quantised in steps of 1/32639 of its
// largest magnitude, and the sums are exact. An instruction does twice as many products as in float32.
#pragma once

#include <cstdint>

#include "cpu/isa/kernels.h"

namespace poseren::cpu {

constexpr int64_t kFixedPointDepth = 1 << 16;  // deeper sums might not fit in 32 bits

// An input in fixed point: blocks of 64 high bytes and 64 low bytes, padded with 0; then a FixedPoint.
constexpr int64_t kBlockValues = 64;
struct FixedPoint {
  float step;
  int32_t sum;  // of all values, in steps
};

// The memory, in floats, that an input of this depth needs in fixed point. May exceed its depth.
constexpr int64_t fixed_point_floats(int64_t depth) {
  return (depth + kBlockValues - 1) / kBlockValues * (2 * kBlockValues / static_cast<int64_t>(sizeof(float))) + 2;
}

// Converts values [depth] from float32 to fixed point in place. A value that is not finite makes all products NaN.
void to_fixed_point(float* values, int64_t depth);

// As dense_rows, for int8 weights and inputs in fixed point. The sums do not depend on their order.
void fixed_point_rows(const Dense& layer, int64_t first, int64_t last);

}  // namespace poseren::cpu
