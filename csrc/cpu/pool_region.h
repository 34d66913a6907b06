// SPDX-License-Identifier: MIT
// Pooling of one region of one sample, for all channels or a block of them: used by pose_roi_pool for every region and
// by the cascade for those that moved.
#pragma once

#include <algorithm>
#include <cstring>
#include <limits>
#include <vector>

#include "core/pose_roi_pool.h"
#include "cpu/isa/kernels.h"

namespace poseren::cpu {

// Copies a window [C, P, P] cell by cell, of which `rows` by `columns` cells from `corner` on are on the map. noinline,
// because compilers make a slower loop of it when it is inlined.
template <class T>
__attribute__((noinline)) void crop_cells(const RegionPool& p, const MapStrides& s, int64_t rows, int64_t columns,
                                          const T* corner, T* region) {
  if (rows < p.bins || columns < p.bins) std::memset(region, 0, p.channels * p.bins * p.bins * sizeof(T));
  for (int64_t c = 0; c < p.channels; c++, region += p.bins * p.bins)
    for (int64_t y = 0; y < rows; y++)
      for (int64_t x = 0; x < columns; x++) region[y * p.bins + x] = corner[c * s.channel + y * s.row + x * s.column];
}

// The window [P, P] of every channel; cells outside the map are 0.
template <class T>
void crop_region(const RegionPool& p, const MapStrides& s, const T* map, const Window& w, T* region) {  // [C, P, P]
  const int64_t rows = std::clamp<int64_t>(p.height - w.y0, 0, p.bins);
  const int64_t columns = std::clamp<int64_t>(p.width - w.x0, 0, p.bins);
  const T* corner = map + w.y0 * s.row + w.x0 * s.column;
  if (s.column != 1 || (p.bins != 6 && p.bins != 7)) return crop_cells(p, s, rows, columns, corner, region);
  // The published sizes. A row begins on the map, and its channel is followed by the next one.
  const int64_t plane = (p.height - 1) * s.row + p.width;
  const bool may_overrun = columns > 0 && s.row >= p.width && s.channel >= plane && plane >= 8;
  const MapWindow window{p.channels, s.channel, s.row, rows, columns, may_overrun};
  on_best_isa([&]<class Isa>(Isa) { copy_window<Isa>(window, p.bins, corner, region); });
}

template <class T>
void max_region(const RegionPool& p, const MapStrides& s, const T* map, const Window& w, T* region) {  // [C, P, P]
  if (is_crop(w, p.bins)) return crop_region(p, s, map, w, region);
  for (int64_t c = 0; c < p.channels; c++) {
    const T* plane = map + c * s.channel;
    for (int64_t by = 0; by < p.bins; by++) {
      const Range rows = bin_range(w.y0, w.y1, by, p.bins, p.height);
      for (int64_t bx = 0; bx < p.bins; bx++) {
        const MapCell cell = max_cell(plane, s, rows, bin_range(w.x0, w.x1, bx, p.bins, p.width));
        if (cell.row < 0)
          store(region++, 0);
        else
          *region++ = plane[cell.row * s.row + cell.column * s.column];
      }
    }
  }
}

// The P * samples sampling points of a region along one axis, and the cells that they touch.
template <class Weight>
struct AxisTaps {
  std::vector<Tap<Weight>> taps;
  int64_t low, high;  // touched cells, half open

  template <class Position>
  void update(const RegionPool& p, Position center, int64_t size) {
    const SampleGrid<Position> grid = sample_grid(p, center);
    taps.resize(p.bins * p.samples);
    low = size;
    high = 0;
    for (int64_t i = 0; i < p.bins * p.samples; i++) {
      const Tap<Weight>& tap = taps[i] = sample_tap<Weight>(grid, i, size);
      if (!tap.inside) continue;
      low = std::min(low, tap.low);
      high = std::max(high, tap.high + 1);
    }
  }
};

// RoI align is separable: the rows of a bin are blended into one line of map columns, then the line is sampled.
template <class T>
struct AlignTaps {
  using Weight = Accumulator<T>;
  AxisTaps<Weight> x, y;
  std::vector<Weight> line;  // [W]

  template <class Position>
  void update(const RegionPool& p, const Position* joint) {  // joint: x, y, normalised
    x.update(p, joint[0], p.width);
    y.update(p, joint[1], p.height);
    line.resize(p.width);
  }

  // Blends bin row `by` of a plane into the line: the sum over its rows of sampling points.
  void blend_rows(const RegionPool& p, const MapStrides& s, const T* plane, int64_t by) {
    for (int64_t column = x.low; column < x.high; column++) line[column] = 0;
    for (int64_t i = by * p.samples; i < (by + 1) * p.samples; i++) {
      const Tap<Weight>& tap = y.taps[i];
      if (!tap.inside) continue;
      const T* low = plane + tap.low * s.row;
      const T* high = plane + tap.high * s.row;
      for (int64_t column = x.low; column < x.high; column++)
        line[column] += (1 - tap.weight) * load(low + column * s.column) + tap.weight * load(high + column * s.column);
    }
  }
};

template <class T>
void align_region(const RegionPool& p, const MapStrides& s, const T* map, AlignTaps<T>& taps, T* region) {  // [C, P, P]
  const Accumulator<T> share = Accumulator<T>(1) / static_cast<Accumulator<T>>(p.samples * p.samples);
  for (int64_t c = 0; c < p.channels; c++) {
    for (int64_t by = 0; by < p.bins; by++) {
      taps.blend_rows(p, s, map + c * s.channel, by);
      for (int64_t bx = 0; bx < p.bins; bx++) {
        Accumulator<T> sum = 0;
        for (int64_t i = bx * p.samples; i < (bx + 1) * p.samples; i++) {
          const auto& tap = taps.x.taps[i];
          if (tap.inside) sum += (1 - tap.weight) * taps.line[tap.low] + tap.weight * taps.line[tap.high];
        }
        store(region++, sum * share);
      }
    }
  }
}

// The windows or sampling points of all regions of one sample, reused from channel to channel.
template <class T>
struct SampleRegions {
  int64_t sample = -1;
  std::vector<Window> windows;     // [M]
  std::vector<AlignTaps<T>> taps;  // [M], of align
  bool crops = false;              // in max mode: all windows are crops

  // Returns whether the sample changed.
  template <class Position>
  bool update(const RegionPool& p, const Position* pose, int64_t at) {
    if (at == sample) return false;
    sample = at;
    windows.resize(p.joints.count);
    taps.resize(p.align ? p.joints.count : 0);
    crops = !p.align;
    for (int64_t m = 0; m < p.joints.count; m++) {
      windows[m] = region_window(p, pose, sample, m);
      if (is_invalid(windows[m])) continue;
      crops &= is_crop(windows[m], p.bins);
      if (p.align) taps[m].update(p, pose + joint_offset(p, sample, m));
    }
    return true;
  }
};

// The region of an invalid joint: NaN.
template <class T>
void invalid_region(const RegionPool& p, T* region) {  // [C, P, P]
  T nan;
  store(&nan, std::numeric_limits<Accumulator<T>>::quiet_NaN());
  std::fill_n(region, p.channels * p.bins * p.bins, nan);
}

}  // namespace poseren::cpu
