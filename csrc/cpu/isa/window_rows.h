// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

#include "core/number.h"
#include "cpu/isa.h"

namespace poseren::cpu {

// A row of a window where it lies on a row of the map.
struct WindowRow {
  int64_t offset;         // of its first value, from those of the channel
  int32_t column, count;  // cells
};

// The rows of a sample's windows, by the map's row that they lie on; on each in the order of the regions.
struct WindowRows {
  const WindowRow* row;
  const int64_t* begin;  // [H + 1]: on y lie begin[y] <= i < begin[y + 1]
  int64_t height, width;
};

// sum[y][x] of one channel [H, W], from its values grad. For T double, float, BFloat16, Half.
template <class Isa, class T>
void sum_window_rows(const WindowRows& rows, const T* grad, Accumulator<T>* sum);

}  // namespace poseren::cpu
