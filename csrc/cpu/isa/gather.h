// SPDX-License-Identifier: MIT
// Loads of 32 bits from scattered places, with each instruction set's best means. Only for csrc/cpu/isa/*.cpp.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace poseren::cpu {
namespace {

// out[i] = the 32 bits at base + kScale * index[i] bytes, for i in [0, count).
template <int kScale>
inline void gather32(const void* base, const int32_t* index, int64_t count, uint32_t* out) {
  int64_t i = 0;
#if defined(__AVX512F__)
  for (; i < count; i += 16) {
    const __mmask16 some = count - i < 16 ? static_cast<__mmask16>((1u << (count - i)) - 1) : __mmask16(0xffff);
    const __m512i at = _mm512_maskz_loadu_epi32(some, index + i);
    _mm512_mask_storeu_epi32(out + i, some, _mm512_mask_i32gather_epi32(at, some, at, base, kScale));
  }
#elif defined(__AVX2__)
  for (; i + 8 <= count; i += 8) {
    const __m256i at = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(index + i));
    const __m256i got = _mm256_i32gather_epi32(static_cast<const int*>(base), at, kScale);
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(out + i), got);
  }
#endif
  for (; i < count; i++)
    memcpy(out + i, static_cast<const char*>(base) + static_cast<int64_t>(kScale) * index[i], sizeof(uint32_t));
}

// Pairs of 16-bit neighbours at the same places of one row after another.
template <int64_t kMost>
class PairPicker {
 public:
  // The pairs that begin at the columns index[i], ascending and below width - 1, for i in [0, count).
  void plan(const int32_t* index, int64_t count, [[maybe_unused]] int64_t width) {
    index_ = index;
    count_ = count;
#if defined(__AVX512BW__)
    if (count == 0) return;
    // No register reaches beyond the last pair, if there is room before it: a cache line lies there that nobody needs.
    const int64_t end = index[count - 1] + 2 > kReach ? index[count - 1] + 2 : width;
    for (int64_t i = 0; i < count; i += kGroup) plan_group(i, count - i < kGroup ? count - i : kGroup, end);
#endif
  }

  // out[i] = the pair at index[i] of the row, the first value in the low half; room for whole groups.
  void pick(const uint16_t* row, uint32_t* out) const {
#if defined(__AVX512BW__)
    for (int64_t i = 0; i < count_; i += kGroup) {
      const Group& group = groups_[i / kGroup];
      if (group.start < 0) {
        gather32<2>(row, index_ + i, count_ - i < kGroup ? count_ - i : kGroup, out + i);
        continue;
      }
      const __m512i low = _mm512_loadu_si512(row + group.start), high = _mm512_loadu_si512(row + group.start + 32);
      _mm512_storeu_si512(out + i, _mm512_permutex2var_epi16(low, _mm512_load_si512(group.from), high));
    }
#else
    gather32<2>(row, index_, count_, out);
#endif
  }

 private:
  const int32_t* index_;
  int64_t count_;

#if defined(__AVX512BW__)
  // Sixteen pairs out of two registers, which reach over 64 columns: several times as fast as a gather.
  static constexpr int64_t kGroup = 16, kReach = 64;
  struct alignas(64) Group {
    int16_t from[2 * kGroup];
    int64_t start;  // first column of the two registers; -1: the pairs lie too far apart
  };
  Group groups_[(kMost + kGroup - 1) / kGroup];

  void plan_group(int64_t first, int64_t size, int64_t end) {
    Group& group = groups_[first / kGroup];
    group = {};
    group.start = index_[first] < end - kReach ? index_[first] : end - kReach;
    if (group.start >= 0 && index_[first + size - 1] + 1 - group.start >= kReach) group.start = -1;
    if (group.start < 0) return;
    for (int64_t i = 0; i < size; i++) {
      group.from[2 * i] = static_cast<int16_t>(index_[first + i] - group.start);
      group.from[2 * i + 1] = static_cast<int16_t>(group.from[2 * i] + 1);
    }
  }
#endif
};

}  // namespace
}  // namespace poseren::cpu
