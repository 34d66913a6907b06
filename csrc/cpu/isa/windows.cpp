// SPDX-License-Identifier: MIT
#include "cpu/isa/kernels.h"

#include <algorithm>
#include <cstring>

#include "cpu/isa/lanes.h"
#include "cpu/isa/map_row.h"

namespace poseren::cpu {
namespace {

// --- copies ---------------------------------------------------------------------------------------------------------

// Channels first to last (half open), of whose rows kColumns cells are on the map (0: w.columns cells).
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
  // The published windows reach at most one cell outside the map.
  const auto copy = w.columns == kBins       ? copy_rows<kBins, kBins, T>
                    : w.columns == kBins - 1 ? copy_rows<kBins, kBins - 1, T>
                                             : copy_rows<kBins, 0, T>;
  copy(w, first, last, corner, region);
}

#if defined(__AVX2__)
// Copies 8 floats per 6- or 7-float row; the overrun is overwritten by the next row. Returns the number of copied
// channels: all for a window on the map, else all but the last, past which nothing may be read.
template <int64_t kBins, bool kWhole>
int64_t copy_eights(const MapWindow& w, const float* corner, float* region) {
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
  if (!kWhole) return w.channels - 1;
#pragma GCC unroll 8
  for (int64_t y = 0; y < kBins - 1; y++)
    _mm256_storeu_ps(region + y * kBins, _mm256_loadu_ps(corner + y * w.row_stride));
  std::memcpy(region + (kBins - 1) * kBins, corner + (kBins - 1) * w.row_stride, kBins * sizeof(float));
  return w.channels;
}
#endif

template <int64_t kBins, class T>
void copy(const MapWindow& w, const T* corner, T* region) {
  int64_t first = 0;
#if defined(__AVX2__)
  if constexpr (std::is_same_v<T, float>) {
    if (w.may_overrun) {
      const bool whole = w.rows == kBins && w.columns == kBins;
      first = whole ? copy_eights<kBins, true>(w, corner, region) : copy_eights<kBins, false>(w, corner, region);
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

#if defined(__AVX2__)
constexpr int64_t kMostRows = 32;

// total[y] = row y of the map, for one channel. With kOverrun, 8 values can be read from the start of a row.
template <bool kOverrun, class T>
inline void sum_rows(const WindowGrads& windows, const T* grad, MapRow* total) {
  for (int64_t y = 0; y < windows.height; y++) total[y] = MapRow{};
  for (int64_t m = 0; m < windows.count; m++) {
    const WindowGrad& w = windows.window[m];
    const WindowColumns columns(w);
    const T* in = grad + w.offset;
    for (int64_t y = w.row; y < w.row + w.rows; y++, in += windows.bins) columns.template add<kOverrun>(in, total[y]);
  }
}

// Stores a row; the overrun is overwritten by the next rows.
POSEREN_HD inline void store_row(const WindowGrads& windows, int64_t y, const MapRow& total, float* sum) {
  const int64_t at = y * windows.width;
  if (at + kMapColumns <= windows.height * windows.width)
    store_all(total, sum + at);
  else
    store_first(total, windows.width, sum + at);
}

template <bool kOverrun, class T>
void sum_by_rows(const WindowGrads& windows, int64_t channels, const T* grad, float* sum) {
  const int64_t size = windows.height * windows.width, bins = windows.bins * windows.bins;
  for (int64_t c = 0; c < channels; c++, grad += bins, sum += size) {
    MapRow total[kMostRows];
    sum_rows<kOverrun>(windows, grad, total);
    for (int64_t y = 0; y < windows.height; y++) store_row(windows, y, total[y], sum);
  }
}
#endif

template <class T>
void sum(const WindowGrads& windows, int64_t channels, const T* grad, Accumulator<T>* sum) {
#if defined(__AVX2__)
  if constexpr (kSumsRows<T>) {
    if (windows.width <= kMapColumns && windows.height <= kMostRows && windows.bins <= kWindowColumns) {
      // Reads past the end of a row, of up to kWindowColumns values, stay within the next channels.
      const int64_t size = windows.height * windows.width, bins = windows.bins * windows.bins;
      const int64_t next = (kWindowColumns - windows.bins + bins - 1) / bins, last = std::min(next, channels);
      const int64_t before = channels - last;
      sum_by_rows<true>(windows, before, grad, sum);
      return sum_by_rows<false>(windows, last, grad + before * bins, sum + before * size);
    }
  }
#endif
  sum_cells(windows, channels, grad, sum);
}

}  // namespace

#define POSEREN_WINDOWS(T)                                                                                          \
  template <>                                                                                                       \
  void copy_window<POSEREN_ISA>(const MapWindow& w, int64_t bins, const T* corner, T* region) {                     \
    bins == 7 ? copy<7>(w, corner, region) : copy<6>(w, corner, region);                                            \
  }                                                                                                                 \
  template <>                                                                                                       \
  void sum_windows<POSEREN_ISA>(const WindowGrads& windows, int64_t channels, const T* grad, Accumulator<T>* out) { \
    sum(windows, channels, grad, out);                                                                              \
  }
POSEREN_WINDOWS(double)
POSEREN_WINDOWS(float)
POSEREN_WINDOWS(BFloat16)
POSEREN_WINDOWS(Half)

}  // namespace poseren::cpu
