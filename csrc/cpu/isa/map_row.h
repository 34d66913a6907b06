// SPDX-License-Identifier: MIT
// Sums of window rows in registers: a row of the map is one register of 16 floats or two of 8. Only for
// csrc/cpu/isa/*.cpp.
#pragma once

#include <cstdint>
#include <type_traits>

#include "cpu/isa/kernels.h"
#include "cpu/isa/lanes.h"

#if defined(__AVX2__)

namespace poseren::cpu {
namespace {

constexpr int64_t kMapColumns = 16, kWindowColumns = 8;  // at most

#if defined(__AVX512F__)

// Whether windows of this type are summed here.
template <class T>
constexpr bool kSumsRows = std::is_same_v<T, float> || std::is_same_v<T, BFloat16>;

using MapRow = Lanes;

// The position of a window's columns on the map.
struct WindowColumns {
  __mmask8 mask;
  __m512i from;
  __mmask16 where;

  POSEREN_HD explicit WindowColumns(const WindowGrad& w)
      : mask(static_cast<__mmask8>((1u << w.columns) - 1)),
        from(_mm512_sub_epi32(_mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
                              _mm512_set1_epi32(w.column))),
        where(static_cast<__mmask16>(mask << w.column)) {}

  // Adds a row of the window. With kOverrun, 8 values can be read at p.
  template <bool kOverrun>
  POSEREN_HD void add(const float* p, MapRow& row) const {
    add(kOverrun ? _mm256_loadu_ps(p) : _mm256_maskz_loadu_ps(mask, p), row);
  }
  template <bool kOverrun>
  POSEREN_HD void add(const BFloat16* p, MapRow& row) const {
    const __m128i half =
        kOverrun ? _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)) : _mm_maskz_loadu_epi16(mask, p);
    add(_mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(half), 16)), row);
  }
  POSEREN_HD void add(__m256 values, MapRow& row) const {
    row += _mm512_maskz_permutexvar_ps(where, from, _mm512_castps256_ps512(values));
  }
};

// Store all 16 columns of a row, or the first ones.
POSEREN_HD inline void store_all(const MapRow& row, float* out) {
  _mm512_storeu_ps(out, row);
}
POSEREN_HD inline void store_first(const MapRow& row, int64_t columns, float* out) {
  _mm512_mask_storeu_ps(out, static_cast<__mmask16>((1u << columns) - 1), row);
}

#else

template <class T>
constexpr bool kSumsRows = std::is_same_v<T, float>;

struct MapRow {
  __m256 low{}, high{};
};

struct WindowColumns {
  __m256i mask, from, low;  // low: the window's columns among the first 8 of the map

  POSEREN_HD explicit WindowColumns(const WindowGrad& w) {
    const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(w.columns), lane);
    from = _mm256_sub_epi32(lane, _mm256_set1_epi32(w.column));  // modulo 8
    low = _mm256_cmpgt_epi32(lane, _mm256_set1_epi32(w.column - 1));
  }

  template <bool kOverrun>
  POSEREN_HD void add(const float* p, MapRow& row) const {
    const __m256 values =
        kOverrun ? _mm256_and_ps(_mm256_castsi256_ps(mask), _mm256_loadu_ps(p)) : _mm256_maskload_ps(p, mask);
    // Rotated by the window's column; what leaves the first 8 columns belongs to the second 8.
    const __m256 rotated = _mm256_permutevar8x32_ps(values, from);
    row.low += _mm256_and_ps(_mm256_castsi256_ps(low), rotated);
    row.high += _mm256_andnot_ps(_mm256_castsi256_ps(low), rotated);
  }
};

POSEREN_HD inline void store_all(const MapRow& row, float* out) {
  _mm256_storeu_ps(out, row.low);
  _mm256_storeu_ps(out + 8, row.high);
}
POSEREN_HD inline void store_first(const MapRow& row, int64_t columns, float* out) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), count = _mm256_set1_epi32(static_cast<int>(columns));
  _mm256_maskstore_ps(out, _mm256_cmpgt_epi32(count, lane), row.low);
  _mm256_maskstore_ps(out + 8, _mm256_cmpgt_epi32(_mm256_sub_epi32(count, _mm256_set1_epi32(8)), lane), row.high);
}

#endif

}  // namespace
}  // namespace poseren::cpu

#endif
