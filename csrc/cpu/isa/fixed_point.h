// SPDX-License-Identifier: MIT
// Products of int8 weights in integers, where the instruction set has them: an input counts in steps of its own,
// 1/32639 of its largest magnitude, and the sums are exact. Twice as many products fit an instruction as in float32.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cpu/isa.h"
#include "cpu/isa/dense.h"

namespace poseren::cpu {

template <class Isa>
constexpr bool kHasFixedPoint = std::is_same_v<Isa, avx512vnni>;

constexpr int64_t kFixedPointDepth = 1 << 16;  // deeper sums might not fit 32 bits

// An input as fixed point: blocks of 64 high bytes and 64 low ones, filled up with 0; then a FixedPoint.
constexpr int64_t kBlockValues = 64;
struct FixedPoint {
  float step;
  int32_t sum;  // of all values, in steps
};

// Floats whose room an input of that depth takes as fixed point; as it may take where it lay as floats, in place.
constexpr int64_t fixed_point_floats(int64_t depth) {
  return (depth + kBlockValues - 1) / kBlockValues * (2 * kBlockValues / static_cast<int64_t>(sizeof(float))) + 2;
}

// Values [depth] from float32 to fixed point, in place. One that is not finite makes all products of the input NaN.
template <class Isa>
void to_fixed_point(float* values, int64_t depth);

// As dense_rows, of int8 weights with inputs in fixed point. The sums do not depend on their order.
template <class Isa>
void fixed_point_rows(const Dense& layer, int64_t first, int64_t last);

}  // namespace poseren::cpu
