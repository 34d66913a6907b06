// SPDX-License-Identifier: MIT
#include "cpu/isa/windows.h"

#include <algorithm>
#include <cstring>

#include "cpu/isa/lanes.h"
#include "cpu/isa/map_row.h"

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
// Eight cells at a time: the next row overwrites those that are too many. Returns how many channels it copied: all of a
// window that lies on the map, otherwise all but the last, behind which nothing may be read.
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
constexpr int64_t kPublishedHeight = 12, kPublishedBins = 7;

// total[y] = row y of the map, of one channel. With kOverrun eight values can be read from where a window's row begins.
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

// A row's store reaches into the next ones, which then overwrite it.
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

#if defined(__AVX512F__)
// A window that begins in row kRow of a map of the published size, one channel: its rows end with P or with the map.
template <int64_t kRow, bool kOverrun, class T>
POSEREN_HD inline void add_rows(const T* in, const WindowColumns& columns, MapRow* total) {
  constexpr int64_t kEnd = std::min(kRow + kPublishedBins, kPublishedHeight);
#pragma GCC unroll 8
  for (int64_t y = kRow; y < kEnd; y++) columns.template add<kOverrun>(in + (y - kRow) * kPublishedBins, total[y]);
}

// The same as sum_by_rows on a map of the published size. The compiler knows all rows, so the totals stay in registers.
template <bool kOverrun, class T>
void sum_published(const WindowGrads& windows, int64_t channels, const T* grad, float* sum) {
  for (int64_t c = 0; c < channels; c++, grad += kPublishedBins * kPublishedBins) {
    MapRow total[kPublishedHeight];
#pragma GCC unroll 12
    for (int64_t y = 0; y < kPublishedHeight; y++) total[y] = MapRow{};
    for (int64_t m = 0; m < windows.count; m++) {
      const WindowGrad& w = windows.window[m];
      const WindowColumns columns(w);
      const T* in = grad + w.offset;
      // clang-format off
      switch (w.row) {
        case 0: add_rows<0, kOverrun>(in, columns, total); break;
        case 1: add_rows<1, kOverrun>(in, columns, total); break;
        case 2: add_rows<2, kOverrun>(in, columns, total); break;
        case 3: add_rows<3, kOverrun>(in, columns, total); break;
        case 4: add_rows<4, kOverrun>(in, columns, total); break;
        case 5: add_rows<5, kOverrun>(in, columns, total); break;
        case 6: add_rows<6, kOverrun>(in, columns, total); break;
        case 7: add_rows<7, kOverrun>(in, columns, total); break;
        case 8: add_rows<8, kOverrun>(in, columns, total); break;
        case 9: add_rows<9, kOverrun>(in, columns, total); break;
        case 10: add_rows<10, kOverrun>(in, columns, total); break;
        case 11: add_rows<11, kOverrun>(in, columns, total); break;
      }
      // clang-format on
    }
#pragma GCC unroll 12
    for (int64_t y = 0; y < kPublishedHeight; y++) store_row(windows, y, total[y], sum);
    sum += kPublishedHeight * windows.width;
  }
}
#endif

template <class T>
void sum(const WindowGrads& windows, int64_t channels, const T* grad, Accumulator<T>* sum) {
#if defined(__AVX2__)
  if constexpr (kSumsRows<T>) {
    if (windows.width <= kMapColumns && windows.height <= kMostRows && windows.bins <= kWindowColumns) {
      // What is read too many, up to kWindowColumns from the last row on, belongs to the next channels.
      const int64_t size = windows.height * windows.width, bins = windows.bins * windows.bins;
      const int64_t next = (kWindowColumns - windows.bins + bins - 1) / bins, last = std::min(next, channels);
      const int64_t before = channels - last;
#if defined(__AVX512F__)
      if (windows.height == kPublishedHeight && windows.bins == kPublishedBins) {
        sum_published<true>(windows, before, grad, sum);
        return sum_published<false>(windows, last, grad + before * bins, sum + before * size);
      }
#endif
      sum_by_rows<true>(windows, before, grad, sum);
      return sum_by_rows<false>(windows, last, grad + before * bins, sum + before * size);
    }
  }
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
