// SPDX-License-Identifier: MIT
// One pass over a region per centre: integer depths in the compiler's portable vector types, floating-point depths in
// plain loops.
#include "cpu/isa/kernels.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "cpu/isa/lanes.h"
#include "cpu/prefetch.h"

namespace poseren::cpu {
namespace {

// The pixels of a region.
template <class T>
struct Pixels {
  const T* stored;      // [height, width]
  const uint8_t* mask;  // [height, width] or null
  int64_t stride, mask_stride;
  int64_t width, height;

  Pixels crop(int64_t x, int64_t y, int64_t columns, int64_t rows) const {
    return {stored + y * stride + x,
            mask ? mask + y * mask_stride + x : nullptr,
            stride,
            mask_stride,
            std::min(columns, width - x),
            std::min(rows, height - y)};
  }
};

// --- integer depths -------------------------------------------------------------------------------------------------

// A register of depths; counters have the width of a depth.
template <class T>
struct Block {
  static constexpr int64_t kRegister = sizeof(cpu::Lanes), kSize = kRegister / sizeof(T);
  using Lane = std::make_unsigned_t<T>;
  using Wide = std::conditional_t<sizeof(T) == 2, uint32_t, int64_t>;  // of T's signedness
  typedef Lane Lanes __attribute__((vector_size(kRegister)));
  typedef Wide WideLanes __attribute__((vector_size(kRegister)));
  static constexpr int kLaneBits = 8 * sizeof(T);
};

// A tile of a region is so small that no lane overflows.
constexpr int64_t kTileBlocks = 64, kTileRows = 32;
static_assert(kTileRows * kTileBlocks * (kTileBlocks - 1) / 2 <= std::numeric_limits<uint16_t>::max());
static_assert(kTileBlocks * kTileRows * (kTileRows + 1) / 2 <= std::numeric_limits<uint16_t>::max());

constexpr int64_t kRowsAhead = 4;  // distance of the prefetch

// The stored integers whose depth lies in the region's range: first to first + span, or none.
template <class T>
struct StoredRange {
  using Lane = typename Block<T>::Lane;
  Lane first, span;
  bool empty;

  StoredRange(const CenterRegion& region, float unit) {
    const int64_t low = first_stored([&](float depth) { return depth >= region.near; }, unit);
    const int64_t high = first_stored([&](float depth) { return depth > region.far; }, unit) - 1;
    first = static_cast<Lane>(low);
    span = static_cast<Lane>(high - low);
    empty = low > high;
  }

 private:
  // Depth grows with the stored integer even after rounding, so bisection finds the first one that passes.
  template <class Passes>
  static int64_t first_stored(const Passes& passes, float unit) {
    int64_t low = std::numeric_limits<T>::min(), high = int64_t{std::numeric_limits<T>::max()} + 1;
    while (low < high) {
      const int64_t middle = low + (high - low) / 2;
      if (passes(to_float(static_cast<T>(middle)) * unit))
        high = middle;
      else
        low = middle + 1;
    }
    return low;
  }
};

// The sums of a tile of at most kTileRows by kTileBlocks. Columns and rows count from the tile's first.
template <class T, bool kMasked>
CenterSums<T> sum_tile(const Pixels<T>& tile, const StoredRange<T>& range) {
  using B = Block<T>;
  using Lane = typename B::Lane;
  using Lanes = typename B::Lanes;
  using WideLanes = typename B::WideLanes;
  Lanes count{}, blocks{};    // per lane: the number of valid pixels and the sum of their block indices
  Lanes so_far{};             // per lane: the sum of `count` after each row
  WideLanes evens{}, odds{};  // sums of the depths in even and odd lanes
  const T* stored = tile.stored;
  const uint8_t* mask = tile.mask;
  const auto add = [&](int64_t block, int64_t size) __attribute__((always_inline)) {
    const int64_t x = block * B::kSize;
    prefetch<2>(stored + kRowsAhead * tile.stride + x, kCacheLine);
    Lanes values{}, allowed{};
    memcpy(&values, stored + x, size * sizeof(T));
    if (kMasked || size < B::kSize) {
      alignas(64) Lane allow[B::kSize] = {};
      for (int64_t lane = 0; lane < size; lane++) allow[lane] = kMasked && mask[x + lane] == 0 ? 0 : ~Lane{0};
      memcpy(&allowed, allow, sizeof(allowed));
    } else {
      allowed = ~allowed;
    }
    const Lanes valid = reinterpret_cast<Lanes>(values - range.first <= range.span) & allowed;
    const auto depth = reinterpret_cast<WideLanes>(values & valid);
    count -= valid;
    blocks += valid & static_cast<Lane>(block);
    evens += (depth << B::kLaneBits) >> B::kLaneBits;
    odds += depth >> B::kLaneBits;
  };
  const int64_t whole = tile.width / B::kSize;
  for (int64_t y = 0; y < tile.height; y++, stored += tile.stride, mask += kMasked ? tile.mask_stride : 0) {
    for (int64_t block = 0; block < whole; block++) add(block, B::kSize);
    if (whole * B::kSize < tile.width) add(whole, tile.width - whole * B::kSize);
    so_far += count;
  }

  CenterSums<T> sums{};
  for (int lane = 0; lane < B::kSize; lane++) {
    sums.count += count[lane];
    sums.columns += int64_t{blocks[lane]} * B::kSize + int64_t{count[lane]} * lane;
    // A pixel of row y was counted after each of the rows y..height-1.
    sums.rows += tile.height * int64_t{count[lane]} - int64_t{so_far[lane]};
  }
  for (int lane = 0; lane < B::kSize / 2; lane++) sums.depth += int64_t{evens[lane]} + int64_t{odds[lane]};
  return sums;
}

// The sums of a region. Columns and rows count from the region's first.
template <class T, bool kMasked>
  requires std::is_integral_v<T>
CenterSums<T> sum_pixels(const Pixels<T>& pixels, const CenterRegion& region, float unit) {
  const StoredRange<T> range(region, unit);
  CenterSums<T> sums{};
  if (range.empty) return sums;
  constexpr int64_t kTileColumns = kTileBlocks * Block<T>::kSize;
  for (int64_t y = 0; y < pixels.height; y += kTileRows)
    for (int64_t x = 0; x < pixels.width; x += kTileColumns) {
      const CenterSums<T> tile = sum_tile<T, kMasked>(pixels.crop(x, y, kTileColumns, kTileRows), range);
      sums.count += tile.count;
      sums.columns += tile.columns + x * tile.count;
      sums.rows += tile.rows + y * tile.count;
      sums.depth += tile.depth;
    }
  return sums;
}

// --- floating-point depths ------------------------------------------------------------------------------------------

constexpr int64_t kChunk = 1 << 13;  // columns whose indices add up to less than 2^31

// Of the valid pixels of a row: their number, the sum of their columns from the row's first, the sum of their depths.
struct RowSums {
  int64_t count, columns;
  double depth;
};

// Depths are summed in lanes (core/hand_center.h).
template <class T, bool kMasked>
RowSums sum_row(const T* stored, const uint8_t* mask, int64_t width, CenterRegion region, float unit) {
  RowSums sums{};
  alignas(64) double depth[kSumLanes] = {};
  for (int64_t start = 0; start < width; start += kChunk) {
    const int64_t size = std::min(kChunk, width - start);
    alignas(64) int32_t count[kSumLanes] = {}, columns[kSumLanes] = {};
    const auto add = [&](int64_t x, int64_t lanes) __attribute__((always_inline)) {
      // Widen the mask in a loop of its own: mixed widths would prevent vectorisation of the sums.
      alignas(64) int32_t allowed[kSumLanes];
      for (int64_t lane = 0; lane < lanes; lane++) allowed[lane] = kMasked ? mask[start + x + lane] : 1;
      for (int64_t lane = 0; lane < lanes; lane++) {
        const T value = stored[start + x + lane];
        const bool valid = is_inside(to_float(value) * unit, region) & (allowed[lane] != 0);
        count[lane] += valid;
        columns[lane] += valid ? static_cast<int32_t>(x) : 0;
        depth[lane] += valid ? summand(value) : 0.0;
      }
    };
    const int64_t whole = size / kSumLanes * kSumLanes;
    for (int64_t x = 0; x < whole; x += kSumLanes) add(x, kSumLanes);
    add(whole, size - whole);
    for (int64_t lane = 0; lane < kSumLanes; lane++) {
      sums.count += count[lane];
      sums.columns += columns[lane] + (start + lane) * count[lane];
    }
  }
  sums.depth = fold_lanes(depth);
  return sums;
}

template <class T, bool kMasked>
CenterSums<T> sum_pixels(const Pixels<T>& pixels, const CenterRegion& region, float unit) {
  CenterSums<T> sums{};
  double lanes[kSumLanes] = {};
  for (int64_t y = 0; y < pixels.height; y++) {
    const Pixels<T> line = pixels.crop(0, y, pixels.width, 1);
    const RowSums row = sum_row<T, kMasked>(line.stored, line.mask, line.width, region, unit);
    sums.count += row.count;
    sums.columns += row.columns;
    sums.rows += y * row.count;
    lanes[y % kSumLanes] += row.depth;
  }
  sums.depth = fold_lanes(lanes);
  return sums;
}

// --- both ----------------------------------------------------------------------------------------------------------

template <class T, bool kMasked>
CenterSums<T> sum_region(const HandCenter& p, int64_t sample, const CenterRegion& region) {
  const T* stored = p.depth.frame<T>(sample);
  const uint8_t* mask = kMasked ? p.mask + sample * p.mask_frame_stride : nullptr;
  const Pixels<T> frame{stored, mask, p.depth.row_stride, p.mask_row_stride, region.right, region.bottom};
  const Pixels<T> pixels = frame.crop(region.left, region.top, p.depth.width, p.depth.height);
  CenterSums<T> sums = sum_pixels<T, kMasked>(pixels, region, static_cast<float>(p.unit));
  sums.columns += region.left * sums.count;
  sums.rows += region.top * sums.count;
  return sums;
}

template <class T, bool kMasked>
void find_center(const HandCenter& p, int64_t sample) {
  bool found = store_center(p, sample, sum_region<T, kMasked>(p, sample, whole_frame(p)), false);
  for (int64_t i = 0; i < p.iterations && found; i++) {
    const CenterRegion region = inside_cube(p, sample, p.center + sample * 3);
    found = store_center(p, sample, sum_region<T, kMasked>(p, sample, region), true);
  }
}

}  // namespace

template <>
void hand_center_samples<POSEREN_ISA>(const HandCenter& p, int64_t first, int64_t last) {
  visit_depth(p.depth.dtype, [&]<class T>(Type<T>) {
    for (int64_t sample = first; sample < last; sample++)
      p.mask ? find_center<T, true>(p, sample) : find_center<T, false>(p, sample);
  });
}

}  // namespace poseren::cpu
