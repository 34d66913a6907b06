// SPDX-License-Identifier: MIT
// The centroid of the hand region, the centre of the crop (paper, section 3.5).
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include "core/dtype.h"
#include "core/number.h"

namespace poseren {

struct HandCenter {
  DepthFrames depth;    // [B, H, W]
  const uint8_t* mask;  // [B, H, W], 0 excludes a pixel; or null
  int64_t mask_frame_stride, mask_row_stride;
  const float* camera;  // [B, 4]; read when there are iterations
  const float* cube;    // [B, 3], half edges, mm; read when there are iterations
  float near, far;      // mm, inclusive
  double unit;          // mm per stored unit
  int64_t iterations;
  void* scratch;   // scratch_bytes() bytes
  float* center;   // [B, 3]: mean u, mean v (px), mean depth (mm); NaN if no pixel is valid
  int64_t* count;  // [B]
};

// The valid pixels: columns left..right and rows top..bottom (half open), depths near..far (inclusive, mm).
struct CenterRegion {
  int64_t left, right, top, bottom;
  float near, far;
};

// The limits are positive and finite, so that a depth that is 0, negative or infinite never passes.
POSEREN_HD inline bool is_inside(float depth, const CenterRegion& region) {
  return (depth >= region.near) & (depth <= region.far);
}

// Integer depths sum exactly in any order. Floating-point depths are summed in float64, in an order that threads, warps
// and vector units can all follow: lane l of kSumLanes takes columns left + l, left + l + kSumLanes, ... of a row, the
// lanes are folded by halves, and the sums of the rows are summed in lanes in the same way.
constexpr int kSumLanes = 32;

template <class T>
using DepthSum = std::conditional_t<std::is_integral_v<T>, int64_t, double>;

POSEREN_HD inline double fold_lanes(double* lanes) {  // [kSumLanes], overwritten
  for (int half = kSumLanes / 2; half > 0; half /= 2)
    for (int lane = 0; lane < half; lane++) lanes[lane] += lanes[lane + half];
  return lanes[0];
}

// The stored value in the type of the sums.
template <class T>
POSEREN_HD inline DepthSum<T> summand(T stored) {
  if constexpr (std::is_integral_v<T>)
    return stored;
  else
    return to_float(stored);
}

template <class T>
struct CenterSums {
  int64_t count, columns, rows;  // of the valid pixels: their number, the sums of their columns and rows
  DepthSum<T> depth;             // stored units
};

POSEREN_HD inline CenterRegion whole_frame(const HandCenter& p) {
  return {0, p.depth.width, 0, p.depth.height, p.near < FLT_MIN ? FLT_MIN : p.near, p.far > FLT_MAX ? FLT_MAX : p.far};
}

// The first whole number not below `bound`, clamped to 0..size; 0 for NaN.
POSEREN_HD inline int64_t first_index(float bound, int64_t size) {
  const float first = ceilf(bound);
  if (!(first > 0)) return 0;
  return first < static_cast<float>(size) ? static_cast<int64_t>(first) : size;
}

// The part of the frame inside the sample's cube around `center` [3]; empty for a NaN centre or cube.
POSEREN_HD inline CenterRegion inside_cube(const HandCenter& p, int64_t sample, const float* center) {
  const float* camera = p.camera + sample * 4;
  const float* cube = p.cube + sample * 3;
  const float z = center[2];
  const float half_u = cube[0] * camera[0] / z, half_v = cube[1] * camera[1] / z;
  CenterRegion region = whole_frame(p);
  region.left = first_index(center[0] - half_u, p.depth.width);
  region.right = first_index(floorf(center[0] + half_u) + 1, p.depth.width);
  region.top = first_index(center[1] - half_v, p.depth.height);
  region.bottom = first_index(floorf(center[1] + half_v) + 1, p.depth.height);
  region.near = fmaxf(region.near, z - cube[2]);
  region.far = fminf(region.far, z + cube[2]);
  if (cube[2] != cube[2]) region.right = region.left;  // fmaxf and fminf ignore NaN
  return region;
}

// Writes the mean to center [3]; an empty cube keeps the last centre. False if there was no valid pixel.
template <class T>
POSEREN_HD inline bool mean_center(const CenterSums<T>& sums, double unit, bool refined, float* center) {
  if (sums.count == 0 && refined) return false;
  const double count = static_cast<double>(sums.count);  // 0 / 0 = NaN: no valid pixel
  center[0] = static_cast<float>(static_cast<double>(sums.columns) / count);
  center[1] = static_cast<float>(static_cast<double>(sums.rows) / count);
  center[2] = static_cast<float>(static_cast<double>(sums.depth) / count * unit);
  return sums.count > 0;
}

// Writes the centre and count of a sample. False if there was no valid pixel.
template <class T>
POSEREN_HD inline bool store_center(const HandCenter& p, int64_t sample, const CenterSums<T>& sums, bool refined) {
  const bool found = mean_center(sums, p.unit, refined, p.center + sample * 3);
  if (found || !refined) p.count[sample] = sums.count;
  return found;
}

}  // namespace poseren
