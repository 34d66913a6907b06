// SPDX-License-Identifier: MIT
// One pass over a region for each centre: integer depths in the compiler's vector types, whose operations every
// instruction set has, floating-point depths in plain loops.
#include "cpu/isa/hand_center.h"

#include <algorithm>
#include <cstring>
#include <limits>

namespace poseren::cpu {
namespace {

// Columns after which sums in narrow lanes are gathered, so that they never overflow.
constexpr int64_t kChunk = 1 << 13;

// The valid pixels of a row: how many, the sum of their columns counted from the row's first, the sum of their depths.
template <class T>
struct RowSums {
  int64_t count, columns;
  DepthSum<T> depth;
};

// One row of a region.
template <class T>
struct Row {
  const T* stored;      // [width]
  const uint8_t* mask;  // [width] or null
  int64_t width;
};

// 64 bytes of integer depths at a time, with their counts and columns in lanes as narrow as the depths.
template <class T>
struct Block {
  using Lane = std::make_unsigned_t<T>;
  using Wide = std::conditional_t<sizeof(T) == 2, uint32_t, int64_t>;  // as signed as T
  typedef Lane Lanes __attribute__((vector_size(64)));
  typedef Wide WideLanes __attribute__((vector_size(64)));
  static constexpr int64_t kSize = 64 / sizeof(T);
  static constexpr int kLaneBits = 8 * sizeof(T);
  static_assert(kChunk / kSize * (kChunk / kSize - 1) / 2 <= std::numeric_limits<Lane>::max());
};

// The stored integers whose depth lies in a region's range: first, and how many follow; none if `empty`.
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
  // Depth grows with the stored integer, also where it is rounded: the first one that passes is found by bisection.
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

// Sums of up to kChunk columns.
template <class T, bool kMasked>
RowSums<T> sum_chunk(const Row<T>& row, const StoredRange<T>& range) {
  using B = Block<T>;
  using Lane = typename B::Lane;
  using Lanes = typename B::Lanes;
  using WideLanes = typename B::WideLanes;
  Lanes count{}, blocks{};    // per lane: how many, and the sum of their blocks' numbers
  WideLanes evens{}, odds{};  // sums of the depths in even and odd lanes
  const auto add = [&](int64_t block, int64_t size) __attribute__((always_inline)) {
    const int64_t x = block * B::kSize;
    Lanes stored{}, allowed{};
    memcpy(&stored, row.stored + x, size * sizeof(T));
    if (kMasked || size < B::kSize) {
      alignas(64) Lane allow[B::kSize] = {};
      for (int64_t lane = 0; lane < size; lane++) allow[lane] = kMasked && row.mask[x + lane] == 0 ? 0 : ~Lane{0};
      memcpy(&allowed, allow, sizeof(allowed));
    } else {
      allowed = ~allowed;
    }
    const Lanes valid = reinterpret_cast<Lanes>(stored - range.first <= range.span) & allowed;
    const auto depth = reinterpret_cast<WideLanes>(stored & valid);
    count -= valid;
    blocks += valid & static_cast<Lane>(block);
    evens += (depth << B::kLaneBits) >> B::kLaneBits;
    odds += depth >> B::kLaneBits;
  };
  const int64_t whole = row.width / B::kSize;
  for (int64_t block = 0; block < whole; block++) add(block, B::kSize);
  if (whole * B::kSize < row.width) add(whole, row.width - whole * B::kSize);

  RowSums<T> sums{};
  for (int lane = 0; lane < B::kSize; lane++) {
    sums.count += count[lane];
    sums.columns += int64_t{blocks[lane]} * B::kSize + int64_t{count[lane]} * lane;
  }
  for (int lane = 0; lane < B::kSize / 2; lane++) sums.depth += int64_t{evens[lane]} + int64_t{odds[lane]};
  return sums;
}

template <class T, bool kMasked>
  requires std::is_integral_v<T>
RowSums<T> sum_row(const Row<T>& row, const StoredRange<T>& range) {
  RowSums<T> sums{};
  for (int64_t start = 0; start < row.width; start += kChunk) {
    const Row<T> chunk{row.stored + start, kMasked ? row.mask + start : nullptr, std::min(kChunk, row.width - start)};
    const RowSums<T> part = sum_chunk<T, kMasked>(chunk, range);
    sums.count += part.count;
    sums.columns += part.columns + start * part.count;
    sums.depth += part.depth;
  }
  return sums;
}

// The depths in mm that count.
struct DepthRange {
  CenterRegion region;
  float unit;
  static constexpr bool empty = false;

  DepthRange(const CenterRegion& region, float unit) : region(region), unit(unit) {}
  bool contains(float stored) const { return is_inside(stored * unit, region); }
};

// Floating-point depths go through lanes (core/hand_center.h).
template <class T, bool kMasked>
RowSums<T> sum_row(const Row<T>& row, DepthRange range) {
  RowSums<T> sums{};
  alignas(64) double depth[kSumLanes] = {};
  for (int64_t start = 0; start < row.width; start += kChunk) {
    const int64_t size = std::min(kChunk, row.width - start);
    alignas(64) int32_t count[kSumLanes] = {}, columns[kSumLanes] = {};
    const auto add = [&](int64_t x, int64_t lane) __attribute__((always_inline)) {
      const bool allowed = !kMasked || row.mask[start + x] != 0;
      const bool valid = range.contains(to_float(row.stored[start + x])) & allowed;
      count[lane] += valid;
      columns[lane] += valid ? static_cast<int32_t>(x) : 0;
      depth[lane] += valid ? summand(row.stored[start + x]) : 0.0;
    };
    const int64_t whole = size / kSumLanes * kSumLanes;
    for (int64_t x = 0; x < whole; x += kSumLanes)
      for (int64_t lane = 0; lane < kSumLanes; lane++) add(x + lane, lane);
    for (int64_t x = whole; x < size; x++) add(x, x - whole);
    for (int64_t lane = 0; lane < kSumLanes; lane++) {
      sums.count += count[lane];
      sums.columns += columns[lane] + start * count[lane];
    }
  }
  sums.depth = fold_lanes(depth);
  return sums;
}

template <class T, bool kMasked>
CenterSums<T> sum_region(const HandCenter& p, int64_t sample, const CenterRegion& region) {
  using Range = std::conditional_t<std::is_integral_v<T>, StoredRange<T>, DepthRange>;
  const Range range(region, static_cast<float>(p.unit));
  const int64_t width = std::max<int64_t>(0, region.right - region.left);
  CenterSums<T> sums{};
  double lanes[kSumLanes] = {};  // of the rows, for floating-point depths
  for (int64_t y = region.top; y < region.bottom && !range.empty; y++) {
    const T* stored = p.depth.frame<T>(sample) + y * p.depth.row_stride + region.left;
    const uint8_t* mask =
        kMasked ? p.mask + sample * p.mask_frame_stride + y * p.mask_row_stride + region.left : nullptr;
    const RowSums<T> row = sum_row<T, kMasked>({stored, mask, width}, range);
    sums.count += row.count;
    sums.columns += row.columns + region.left * row.count;
    sums.rows += y * row.count;
    if constexpr (std::is_integral_v<T>)
      sums.depth += row.depth;
    else
      lanes[(y - region.top) % kSumLanes] += row.depth;
  }
  if constexpr (!std::is_integral_v<T>) sums.depth = fold_lanes(lanes);
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
