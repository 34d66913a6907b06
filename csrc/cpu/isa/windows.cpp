// SPDX-License-Identifier: MIT
#include "cpu/isa/windows.h"

#include <cstring>

#include "cpu/isa/lanes.h"

namespace poseren::cpu {
namespace {

// --- copies ---------------------------------------------------------------------------------------------------------

// Channels first..last (half open); of each row kColumns cells are on the map, or w.columns if that is 0.
template <int64_t kBins, int64_t kColumns, class T>
void copy_rows(const MapWindow& w, int64_t first, int64_t last, const T* corner, T* region) {
  const int64_t columns = kColumns ? kColumns : w.columns;
  for (int64_t c = first; c < last; c++) {
    const T* in = corner + c * w.channel_stride;
    T* out = region + c * kBins * kBins;
#pragma GCC unroll 8
    for (int64_t y = 0; y < kBins; y++, in += w.row_stride, out += kBins) {
      const int64_t copied = y < w.rows ? columns : 0;
      if (copied) std::memcpy(out, in, columns * sizeof(T));
      if (copied < kBins) std::memset(out + copied, 0, (kBins - copied) * sizeof(T));
    }
  }
}

template <int64_t kBins, class T>
void copy_channels(const MapWindow& w, int64_t first, int64_t last, const T* corner, T* region) {
  // The published windows reach at most one cell beyond the map.
  const auto copy = w.columns == kBins       ? copy_rows<kBins, kBins, T>
                    : w.columns == kBins - 1 ? copy_rows<kBins, kBins - 1, T>
                                             : copy_rows<kBins, 0, T>;
  copy(w, first, last, corner, region);
}

#if defined(__AVX2__)
// Eight cells at a time: the next row overwrites those that are too many. All channels but the last.
template <int64_t kBins, bool kWhole>
void copy_eights(const MapWindow& w, const float* corner, float* region) {
  const __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  const __m256i on_map = _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(w.columns)), lane);
  for (int64_t c = 0; c < w.channels - 1; c++, corner += w.channel_stride, region += kBins * kBins) {
#pragma GCC unroll 8
    for (int64_t y = 0; y < kBins; y++) {
      __m256 row = _mm256_setzero_ps();
      if (kWhole || y < w.rows) row = _mm256_loadu_ps(corner + y * w.row_stride);
      if (!kWhole) row = _mm256_and_ps(row, _mm256_castsi256_ps(on_map));
      _mm256_storeu_ps(region + y * kBins, row);
    }
  }
}
#endif

template <int64_t kBins, class T>
void copy(const MapWindow& w, const T* corner, T* region) {
  int64_t first = 0;
#if defined(__AVX2__)
  if constexpr (std::is_same_v<T, float>) {
    if (w.may_overrun) {
      const bool whole = w.rows == kBins && w.columns == kBins;
      whole ? copy_eights<kBins, true>(w, corner, region) : copy_eights<kBins, false>(w, corner, region);
      first = w.channels - 1;
    }
  }
#endif
  copy_channels<kBins>(w, first, w.channels, corner, region);
}

// --- sums -----------------------------------------------------------------------------------------------------------

template <class T>
void sum_cells(const WindowGrads& windows, int64_t channels, const T* grad, Accumulator<T>* sum) {
  const int64_t size = windows.height * windows.width, bins = windows.bins * windows.bins;
  std::memset(sum, 0, channels * size * sizeof(*sum));
  for (int64_t c = 0; c < channels; c++, grad += bins, sum += size) {
    for (int64_t m = 0; m < windows.count; m++) {
      const WindowGrad& w = windows.window[m];
      for (int64_t y = 0; y < w.rows; y++) {
        const T* in = grad + w.offset + y * windows.bins;
        Accumulator<T>* out = sum + (w.row + y) * windows.width + w.column;
        for (int64_t x = 0; x < w.columns; x++) out[x] += load(in + x);
      }
    }
  }
}

#if defined(__AVX512F__)
constexpr int64_t kMostRows = 32, kMostColumns = 8;

// The first values of a window's row at p, moved to where it lies on the map; nothing beside them is read.
inline Lanes placed(const float* p, __mmask8 some, __m512i from, __mmask16 where) {
  return _mm512_maskz_permutexvar_ps(where, from, _mm512_castps256_ps512(_mm256_maskz_loadu_ps(some, p)));
}
inline Lanes placed(const BFloat16* p, __mmask8 some, __m512i from, __mmask16 where) {
  const __m256i bits = _mm256_slli_epi32(_mm256_cvtepu16_epi32(_mm_maskz_loadu_epi16(some, p)), 16);
  return _mm512_maskz_permutexvar_ps(where, from, _mm512_castps256_ps512(_mm256_castsi256_ps(bits)));
}

// total[y] = row y of the map, of one channel. A row of the map takes one register, one of a window half of one.
template <class T>
inline void sum_rows(const WindowGrads& windows, const T* grad, Lanes* total) {
  for (int64_t y = 0; y < windows.height; y++) total[y] = Lanes{};
  const __m512i lane = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  for (int64_t m = 0; m < windows.count; m++) {
    const WindowGrad& w = windows.window[m];
    const unsigned some = (1u << w.columns) - 1;
    const __m512i from = _mm512_sub_epi32(lane, _mm512_set1_epi32(w.column));
    const T* in = grad + w.offset;
    for (int64_t y = w.row; y < w.row + w.rows; y++, in += windows.bins)
      total[y] += placed(in, static_cast<__mmask8>(some), from, static_cast<__mmask16>(some << w.column));
  }
}

// Each row's store reaches into the next ones, which then overwrite it.
inline void store_rows(const WindowGrads& windows, const Lanes* total, float* sum) {
  const int64_t size = windows.height * windows.width;
  for (int64_t y = 0, at = 0; y < windows.height; y++, at += windows.width) {
    if (at + kLanes <= size)
      _mm512_storeu_ps(sum + at, total[y]);
    else
      memcpy(sum + at, &total[y], windows.width * sizeof(float));
  }
}

template <class T>
void sum_in_registers(const WindowGrads& windows, int64_t channels, const T* grad, float* sum) {
  Lanes total[kMostRows];
  const int64_t size = windows.height * windows.width, bins = windows.bins * windows.bins;
  for (int64_t c = 0; c < channels; c++, grad += bins, sum += size) {
    sum_rows(windows, grad, total);
    store_rows(windows, total, sum);
  }
}
#endif

template <class T>
void sum(const WindowGrads& windows, int64_t channels, const T* grad, Accumulator<T>* sum) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float> || std::is_same_v<T, BFloat16>)
    if (windows.width <= kLanes && windows.height <= kMostRows && windows.bins <= kMostColumns)
      return sum_in_registers(windows, channels, grad, sum);
#endif
  sum_cells(windows, channels, grad, sum);
}

}  // namespace

template <>
void copy_window<POSEREN_ISA>(const MapWindow& w, int64_t bins, const double* corner, double* region) {
  bins == 7 ? copy<7>(w, corner, region) : copy<6>(w, corner, region);
}
template <>
void copy_window<POSEREN_ISA>(const MapWindow& w, int64_t bins, const float* corner, float* region) {
  bins == 7 ? copy<7>(w, corner, region) : copy<6>(w, corner, region);
}
template <>
void copy_window<POSEREN_ISA>(const MapWindow& w, int64_t bins, const BFloat16* corner, BFloat16* region) {
  bins == 7 ? copy<7>(w, corner, region) : copy<6>(w, corner, region);
}
template <>
void copy_window<POSEREN_ISA>(const MapWindow& w, int64_t bins, const Half* corner, Half* region) {
  bins == 7 ? copy<7>(w, corner, region) : copy<6>(w, corner, region);
}

template <>
void sum_windows<POSEREN_ISA>(const WindowGrads& windows, int64_t channels, const double* grad, double* out) {
  sum(windows, channels, grad, out);
}
template <>
void sum_windows<POSEREN_ISA>(const WindowGrads& windows, int64_t channels, const float* grad, float* out) {
  sum(windows, channels, grad, out);
}
template <>
void sum_windows<POSEREN_ISA>(const WindowGrads& windows, int64_t channels, const BFloat16* grad, float* out) {
  sum(windows, channels, grad, out);
}
template <>
void sum_windows<POSEREN_ISA>(const WindowGrads& windows, int64_t channels, const Half* grad, float* out) {
  sum(windows, channels, grad, out);
}

}  // namespace poseren::cpu
