// SPDX-License-Identifier: MIT
// One pass over a region for each centre, in plain loops over a row that the compiler vectorises.
#include "cpu/isa/hand_center.h"

#include <algorithm>

namespace poseren::cpu {
namespace {

// Columns whose sums fit 32 bits: of their numbers, counted from the first, and of uint16 depths.
constexpr int64_t kChunk = 1 << 15;
static_assert(kChunk % kSumLanes == 0);

// The valid pixels of a row: how many, the sum of their columns counted from the row's first, the sum of their depths.
template <class T>
struct RowSums {
  int64_t count, columns;
  DepthSum<T> depth;
};

// One row of a region.
template <class T, bool kMasked>
struct Row {
  const T* stored;      // [width]
  const uint8_t* mask;  // [width] if kMasked
  int64_t width;
  CenterRegion region;
  float unit;

  bool is_valid(int64_t x) const {
    const bool inside = poseren::is_inside(to_float(stored[x]) * unit, region);
    return kMasked ? inside & (mask[x] != 0) : inside;
  }
};

template <class T, bool kMasked>
  requires std::is_integral_v<T>
RowSums<T> sum_row(const Row<T, kMasked>& row) {
  RowSums<T> sums{};
  for (int64_t start = 0; start < row.width; start += kChunk) {
    const int32_t size = static_cast<int32_t>(std::min(kChunk, row.width - start));
    int32_t count = 0, columns = 0;
    std::conditional_t<sizeof(T) == 2, uint32_t, int64_t> depth = 0;
    for (int32_t x = 0; x < size; x++) {
      const bool valid = row.is_valid(start + x);
      count += valid;
      columns += valid ? x : 0;
      depth += valid ? row.stored[start + x] : 0;
    }
    sums.count += count;
    sums.columns += columns + start * count;
    sums.depth += depth;
  }
  return sums;
}

// Floating-point depths go through lanes (core/hand_center.h).
template <class T, bool kMasked>
RowSums<T> sum_row(const Row<T, kMasked>& row) {
  RowSums<T> sums{};
  alignas(64) double depth[kSumLanes] = {};
  for (int64_t start = 0; start < row.width; start += kChunk) {
    const int64_t size = std::min(kChunk, row.width - start);
    alignas(64) int32_t count[kSumLanes] = {}, columns[kSumLanes] = {};
    auto add = [&](int64_t x, int64_t lane) {
      const bool valid = row.is_valid(start + x);
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
  CenterSums<T> sums{};
  double lanes[kSumLanes] = {};  // of the rows, for floating-point depths
  for (int64_t y = region.top; y < region.bottom; y++) {
    const T* stored = p.depth.frame<T>(sample) + y * p.depth.row_stride + region.left;
    const uint8_t* mask =
        kMasked ? p.mask + sample * p.mask_frame_stride + y * p.mask_row_stride + region.left : nullptr;
    const RowSums<T> row = sum_row(Row<T, kMasked>{stored, mask, std::max<int64_t>(0, region.right - region.left),
                                                   region, static_cast<float>(p.unit)});
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
