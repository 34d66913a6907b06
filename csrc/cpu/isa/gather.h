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

}  // namespace
}  // namespace poseren::cpu
