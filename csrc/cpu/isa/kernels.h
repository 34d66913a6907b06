// SPDX-License-Identifier: MIT
// The vector kernels, each compiled once per instruction set (cpu/isa.h).
#pragma once

#include <cstdint>

#include "core/depth_crop.h"
#include "core/dtype.h"
#include "core/hand_center.h"
#include "cpu/isa.h"

namespace poseren::cpu {

// Output rows first to last (half open) of all B*S rows.
template <class Isa>
void depth_crop_rows(const DepthCrop& p, int64_t first, int64_t last);

// The centres of samples first to last (half open).
template <class Isa>
void hand_center_samples(const HandCenter& p, int64_t first, int64_t last);

// --- windows of P x P cells, whose last rows and columns may lie outside the map ------------------------------------

// A window in a feature map [C, H, W] whose columns are adjacent. Strides in elements.
struct MapWindow {
  int64_t channels, channel_stride, row_stride;
  int64_t rows, columns;  // on the map
  bool may_overrun;       // in every channel but the last, 8 values can be read from the start of a row
};

// Copies the window at `corner` to region [C, P, P], for P = 6 or 7; cells outside the map are 0. For T double, float,
// BFloat16, Half.
template <class Isa, class T>
void copy_window(const MapWindow& window, int64_t bins, const T* corner, T* region);

// A window's position on the map and the offset of its gradient.
struct WindowGrad {
  int64_t offset;                      // of the first value, from that of the channel
  int32_t row, column, rows, columns;  // rows and columns that lie on the map
};

// The windows of a sample, in the order of the regions.
struct WindowGrads {
  const WindowGrad* window;
  int64_t count, bins;
  int64_t height, width;  // of the map
};

// Sums the gradients of adjacent channels into sum [channels, H, W]. For T double, float, BFloat16, Half.
template <class Isa, class T>
void sum_windows(const WindowGrads& windows, int64_t channels, const T* grad, Accumulator<T>* sum);

// --- fully connected layers -----------------------------------------------------------------------------------------

constexpr int64_t kPartDepth = 1056;  // 17 KB of four rows of floats; a third of the published network's first layer

// output[s][r] = sum over k of weight[r][k] * input[s][k]. The order of a sum depends only on the depth: a sample's
// outputs have the same bits in every batch.
struct Dense {
  const void* weight;  // [rows, depth], float32, bfloat16 or int8
  int64_t row_stride;  // weights
  DType dtype;
  int64_t depth;
  int64_t part;  // the depth that is computed for many samples before the next part: a multiple of 16, or all
  int64_t samples;
  const float* const* input;  // [samples] rows of [depth]
  float* const* output;       // [samples] rows of [rows]
};

// Outputs first to last (half open) of every sample.
template <class Isa>
void dense_rows(const Dense& layer, int64_t first, int64_t last);

}  // namespace poseren::cpu
