// SPDX-License-Identifier: MIT
// Gathers of 32-bit values, with the best instructions of each set. Only for csrc/cpu/isa/*.cpp.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/number.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace poseren::cpu {
namespace {

constexpr int64_t kGroup = 16;  // pixels

// out[i] = the 32 bits at base + kScale * index[i] bytes, for i in [0, count), count <= kGroup.
template <int kScale>
POSEREN_HD inline void gather32(const void* base, const int32_t* index, int64_t count, uint32_t* out) {
#if defined(__AVX512F__)
  const __mmask16 mask = static_cast<__mmask16>((1u << count) - 1);
  const __m512i at = _mm512_maskz_loadu_epi32(mask, index);
  _mm512_mask_storeu_epi32(out, mask, _mm512_mask_i32gather_epi32(at, mask, at, base, kScale));
#else
  int64_t i = 0;
#if defined(__AVX2__)
  for (; i + 8 <= count; i += 8) {
    const __m256i at = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index + i));
    const __m256i values = _mm256_i32gather_epi32(static_cast<const int*>(base), at, kScale);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), values);
  }
#endif
  for (; i < count && i < kGroup; i++)
    memcpy(out + i, static_cast<const char*>(base) + static_cast<int64_t>(kScale) * index[i], sizeof(uint32_t));
#endif
}

// Picks pairs of 16-bit neighbours at the same columns of one row after another. Faster than gathers.
template <int64_t kMost>
class PairPicker {
 public:
  // Prepares pairs that begin at the columns index[i], ascending and below width - 1, for i in [0, count).
  // False if they must be gathered: they are too far apart, or the instruction set lacks the permutation.
  bool plan([[maybe_unused]] const int32_t* index, [[maybe_unused]] int64_t count, [[maybe_unused]] int64_t width) {
#if defined(__AVX512BW__)
    if (count == 0) return false;
    // Align loads to end at the last pair, so no extra cache line is touched.
    const int64_t end = index[count - 1] + 2 > kReach ? index[count - 1] + 2 : width;
    bool are_near = true;
    for (int64_t i = 0; i < count; i += kGroup)
      are_near &= plan_group(groups_[i / kGroup], index + i, count - i < kGroup ? count - i : kGroup, end);
    return are_near;
#else
    return false;
#endif
  }

  // out[i] = pair i of the group in the row, the first value in the low half, for i in [0, kGroup). Pairs past the last
  // are arbitrary values of the row.
  POSEREN_HD void pick([[maybe_unused]] const void* row, [[maybe_unused]] int64_t group,
                       [[maybe_unused]] uint32_t* out) const {
#if defined(__AVX512BW__)
    const Group& from = groups_[group];
    const uint16_t* low = static_cast<const uint16_t*>(row) + from.start;
    const __m512i pairs = _mm512_permutex2var_epi16(_mm512_loadu_si512(low), _mm512_load_si512(from.places),
                                                    _mm512_loadu_si512(low + kReach / 2));
    _mm512_storeu_si512(out, pairs);
#endif
  }

 private:
#if defined(__AVX512BW__)
  static constexpr int64_t kReach = 64;  // columns of two registers
  struct alignas(64) Group {
    int16_t places[2 * kGroup];
    int64_t start;  // first column of the two registers
  };
  Group groups_[(kMost + kGroup - 1) / kGroup];

  static bool plan_group(Group& group, const int32_t* index, int64_t count, int64_t end) {
    group = {};
    // Start at a multiple of kGroup if the pairs still fit: fewer loads cross a cache line.
    const int64_t even = index[0] / kGroup * kGroup;
    const int64_t first = index[count - 1] + 1 - even < kReach ? even : index[0];
    group.start = first < end - kReach ? first : end - kReach;
    if (group.start < 0 || index[count - 1] + 1 - group.start >= kReach) return false;
    for (int64_t i = 0; i < count; i++) {
      group.places[2 * i] = static_cast<int16_t>(index[i] - group.start);
      group.places[2 * i + 1] = static_cast<int16_t>(group.places[2 * i] + 1);
    }
    return true;
  }
#endif
};

}  // namespace
}  // namespace poseren::cpu
