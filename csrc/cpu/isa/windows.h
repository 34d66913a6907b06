// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/number.h"
#include "cpu/isa.h"

namespace poseren::cpu {

// Windows of P x P cells of which only the first rows and columns may lie on the map.

// Where a window's values lie in a feature map [C, H, W] whose rows are without gaps, in elements.
struct MapWindow {
  int64_t channels, channel_stride, row_stride;
  int64_t rows, columns;  // that lie on the map
  bool may_overrun;       // eight values can be read from where a row begins, but in the last channel
};

// region [C, P, P] = the values from `corner` on, P being 6 or 7; those outside the map are 0. For T double, float,
// BFloat16, Half.
template <class Isa, class T>
void copy_window(const MapWindow& window, int64_t bins, const T* corner, T* region);

// A window's place on the map, and that of its gradient. It has as many rows and columns as of P lie on the map.
struct WindowGrad {
  int64_t offset;  // of its first value, from those of the channel
  int32_t row, column, rows, columns;
};

// The windows of a sample, in the order of the regions.
struct WindowGrads {
  const WindowGrad* window;
  int64_t count, bins;
  int64_t height, width;  // of the map
};

// sum [channels, H, W] of channels that follow each other, from their values grad. For T double, float, BFloat16, Half.
template <class Isa, class T>
void sum_windows(const WindowGrads& windows, int64_t channels, const T* grad, Accumulator<T>* sum);

}  // namespace poseren::cpu
