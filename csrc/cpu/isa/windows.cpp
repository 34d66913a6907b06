// SPDX-License-Identifier: MIT
#include "cpu/isa/kernels.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "cpu/isa/lanes.h"

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

// The sums of the windows' gradients of one channel.
template <class T>
void sum_cells(const WindowGrads& windows, const T* grad, Accumulator<T>* sum) {
  std::memset(sum, 0, windows.height * windows.width * sizeof(*sum));
  for (int64_t m = 0; m < windows.count; m++) {
    const WindowGrad& w = windows.window[m];
    for (int64_t y = 0; y < w.rows; y++) {
      const T* in = grad + w.offset + y * windows.bins;
      Accumulator<T>* out = sum + (w.row + y) * windows.width + w.column;
      for (int64_t x = 0; x < w.columns; x++) out[x] += load(in + x);
    }
  }
}

constexpr int kEight = 8;
typedef float Eight __attribute__((vector_size(kEight * sizeof(float))));
typedef int32_t EightIntegers __attribute__((vector_size(kEight * sizeof(int32_t))));
typedef uint16_t EightWords __attribute__((vector_size(kEight * sizeof(uint16_t))));

// Not returned: without AVX that would be a warning about the calling convention.
POSEREN_HD inline void load_eight(const float* p, EightIntegers& bits) {
  memcpy(&bits, p, sizeof(bits));
}
POSEREN_HD inline void load_eight(const BFloat16* p, EightIntegers& bits) {
  EightWords words;
  memcpy(&words, p, sizeof(words));
  bits = __builtin_convertvector(words, EightIntegers) << 16;
}

// The same for windows of up to 8 columns, 8 values at a time: those past the window add 0. They must lie in memory.
template <class T>
void sum_eights(const WindowGrads& windows, const T* grad, float* sum) {
  std::memset(sum, 0, (windows.height * windows.width + kEight) * sizeof(*sum));
  for (int64_t m = 0; m < windows.count; m++) {
    const WindowGrad& w = windows.window[m];
    const EightIntegers inside = EightIntegers{0, 1, 2, 3, 4, 5, 6, 7} < w.columns;
    const T* in = grad + w.offset;
    float* out = sum + w.row * windows.width + w.column;
    for (int64_t y = 0; y < w.rows; y++, in += windows.bins, out += windows.width) {
      Eight total;
      EightIntegers bits;
      memcpy(&total, out, sizeof(total));
      load_eight(in, bits);
      total += reinterpret_cast<Eight>(bits & inside);
      memcpy(out, &total, sizeof(total));
    }
  }
}

#if defined(__AVX512F__)
constexpr int64_t kHeight = 12, kBins = 7;  // of the published network: its map rows stay in registers

// Adds a window that starts in row kRow of the map and reaches row kRow + kBins or the end of the map.
template <int64_t kRow, class T>
POSEREN_HD inline void add_rows(const WindowGrad& w, const T* in, Lanes* total) {
  const Integers lane{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
  const __m512i from = reinterpret_cast<__m512i>(lane - w.column);
  const __mmask16 where = static_cast<__mmask16>(((1u << w.columns) - 1) << w.column);
  constexpr int64_t kEnd = std::min(kRow + kBins, kHeight);
#pragma GCC unroll 8
  for (int64_t y = kRow; y < kEnd; y++) {
    EightIntegers bits;
    load_eight(in + (y - kRow) * kBins, bits);
    total[y] += _mm512_maskz_permutexvar_ps(where, from, _mm512_castps256_ps512(reinterpret_cast<__m256>(bits)));
  }
}

// As sum_eights for the published windows on maps of up to kLanes columns.
template <int64_t... kRow, class T>
void sum_published(const WindowGrads& windows, const T* grad, float* sum, std::integer_sequence<int64_t, kRow...>) {
  Lanes total[kHeight] = {};
  for (int64_t m = 0; m < windows.count; m++) {
    const WindowGrad& w = windows.window[m];
    (void)((w.row == kRow && (add_rows<kRow>(w, grad + w.offset, total), true)) || ...);
  }
  const __mmask16 columns = static_cast<__mmask16>((1u << windows.width) - 1);
#pragma GCC unroll 16
  for (int64_t y = 0; y < kHeight; y++) _mm512_mask_storeu_ps(sum + y * windows.width, columns, total[y]);
}
#endif

// One channel. With may_overrun, 8 values can be read from the start of a row and written past the last one.
template <class T>
void sum_channel(const WindowGrads& windows, bool may_overrun, const T* grad, Accumulator<T>* sum) {
  if constexpr (std::is_same_v<T, float> || std::is_same_v<T, BFloat16>) {
#if defined(__AVX512F__)
    if (may_overrun && windows.height == kHeight && windows.bins == kBins && windows.width < kLanes)
      return sum_published(windows, grad, sum, std::make_integer_sequence<int64_t, kHeight>{});
#endif
    if (may_overrun && windows.bins <= kEight) return sum_eights(windows, grad, sum);
  }
  sum_cells(windows, grad, sum);
}

template <class T>
void sum(const WindowGrads& windows, int64_t channels, const T* grad, Accumulator<T>* sum) {
  const int64_t size = windows.height * windows.width, bins = windows.bins * windows.bins;
  for (int64_t c = 0; c < channels; c++)
    sum_channel(windows, c + 1 < channels && bins >= kEight && size >= kEight, grad + c * bins, sum + c * size);
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
