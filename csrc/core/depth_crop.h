// SPDX-License-Identifier: MIT
// The cube around the hand as the network sees it: cropped, resized, clamped, normalised (paper, section 3.5).
//
// Where an output pixel looks is computed in float64, values in float32, in one order of operations: the same bits from
// every device, provided that products and sums are not contracted (nvcc: -fmad=false).
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "core/depth_frames.h"
#include "core/host_device.h"
#include "core/number.h"

namespace poseren {

enum class Invalid : int32_t {
  keep = 0,        // stored values as they are
  background = 1,  // 0, NaN and infinity become the cube's far face
  value = 2,       // 0, NaN and infinity become a given depth
};

// A row of numbers for each sample.
struct SampleRows {
  const float* data;
  int64_t step;  // from a sample's row to the next, elements: 0 where all share one

  POSEREN_HD const float* operator[](int64_t sample) const { return data + sample * step; }
};

struct CropGeometry {
  const float* center;     // [B, 3]: u, v px, z mm
  SampleRows camera;       // [B, 4]
  SampleRows cube;         // [B, 3], half edges, mm
  const float* transform;  // [B, 2, 3], augmented = A p in normalised coordinates; or null
  int64_t size;            // S >= 2
  float unit;              // mm per stored unit
  Invalid invalid;
  float invalid_value;  // mm, for Invalid::value
  bool nearest;         // the nearest pixel instead of bilinear interpolation
};

struct DepthCrop {
  DepthFrames depth;  // [B, H, W]
  CropGeometry geometry;
  void* crop;  // [B, 1, S, S]: float32, float16 or bfloat16
  DType crop_dtype;
};

struct DepthCropBackward {
  DepthFrames depth;  // [B, H, W]
  CropGeometry geometry;
  const void* grad;  // [B, 1, S, S]: float32, float16 or bfloat16
  DType grad_dtype;
  float* depth_grad;  // [B, H, W], contiguous
};

// visit(Type<T>{}) for the crops' types.
template <class Visit>
decltype(auto) visit_crop(DType dtype, Visit&& visit) {
  switch (dtype) {
    case DType::f16:
      return visit(Type<Half>{});
    case DType::bf16:
      return visit(Type<BFloat16>{});
    default:
      return visit(Type<float>{});
  }
}

// How one sample is looked at. x and y below: the output pixel's normalised coordinates, less the transform's
// translation.
struct CropView {
  double cu, cv;
  double ux, uy, vx, vy;      // px for a whole half edge of the crop
  double shift_x, shift_y;    // the transform's translation
  float z, half, background;  // mm: the centre's depth, the cube's half edge and far face
  float replacement;          // mm, in place of invalid values
  bool usable;                // false: the patch is NaN and the frame is not read
};

POSEREN_HD inline bool is_finite(float value) {
  return fabsf(value) <= FLT_MAX;
}
POSEREN_HD inline bool is_length(float value) {
  return value > 0 && value <= FLT_MAX;
}

POSEREN_HD inline CropView crop_view(const CropGeometry& g, int64_t sample) {
  const float* center = g.center + sample * 3;
  const float* camera = g.camera[sample];
  const float* cube = g.cube[sample];
  CropView view;
  view.usable = is_finite(center[0]) && is_finite(center[1]) && is_length(center[2]) && is_length(camera[0]) &&
                is_length(camera[1]) && is_length(cube[0]) && is_length(cube[1]) && is_length(cube[2]);
  const double z = center[2];
  const double half_u = static_cast<double>(cube[0]) * camera[0] / z;
  const double half_v = static_cast<double>(cube[1]) * camera[1] / z;
  view.cu = center[0];
  view.cv = center[1];
  view.ux = half_u;
  view.uy = view.vx = view.shift_x = view.shift_y = 0;
  view.vy = half_v;
  if (g.transform) {  // look where A^-1 leads
    const float* row = g.transform + sample * 6;
    for (int i = 0; i < 6; i++) view.usable = view.usable && is_finite(row[i]);
    const double a = row[0], b = row[1], c = row[3], d = row[4];
    const double determinant = a * d - b * c;
    view.usable = view.usable && determinant != 0;
    view.ux = d / determinant * half_u;
    view.uy = -b / determinant * half_u;
    view.vx = -c / determinant * half_v;
    view.vy = a / determinant * half_v;
    view.shift_x = row[2];
    view.shift_y = row[5];
  }
  view.z = center[2];
  view.half = cube[2];
  view.background = view.z + view.half;
  view.replacement = g.invalid == Invalid::value ? g.invalid_value : view.background;
  return view;
}

POSEREN_HD inline double place_u(const CropView& view, double x, double y) {
  return view.cu + (x * view.ux + y * view.uy);
}
POSEREN_HD inline double place_v(const CropView& view, double x, double y) {
  return view.cv + (x * view.vx + y * view.vy);
}

// Corner to corner: -1 for the first output pixel of an axis, 1 for the last.
POSEREN_HD inline double crop_coordinate(int64_t index, int64_t size) {
  return 2.0 * static_cast<double>(index) / static_cast<double>(size - 1) - 1.0;
}

// Along one axis of the frame: the pixel at or before a place, and how far the place is beyond it.
struct Cell {
  int32_t index;  // -2..size: beyond the frame's rim all places are alike, and fit an integer however far they are
  float fraction;
};

POSEREN_HD inline Cell cell_at(double place, double size) {
  const double low = floor(place);
  const double near = low > -2 ? low : -2;  // also when it is not a number
  return {static_cast<int32_t>(near < size ? near : size), static_cast<float>(place - low)};
}

// The depth in mm that stored data stand for.
template <bool kReplace>
POSEREN_HD inline float depth_of(float stored, const CropView& view, float unit) {
  if constexpr (kReplace) {
    const bool is_depth = (stored != 0) & (fabsf(stored) <= FLT_MAX);
    return is_depth ? stored * unit : view.replacement;
  }
  return stored * unit;
}

POSEREN_HD inline float mix(float first, float second, float fraction) {
  return (1 - fraction) * first + fraction * second;
}

POSEREN_HD inline float normalized_depth(float depth, const CropView& view) {
  const float offset = depth - view.z;
  const float above = offset < -view.half ? -view.half : offset;  // NaN passes
  return (above > view.half ? view.half : above) / view.half;
}

// One sample's frame with its view: what a single output pixel needs.
template <class T>
struct CropSource {
  const T* frame;  // [H, W]
  int64_t height, width, row_stride;
  CropView view;
  float unit;
  bool replace;

  POSEREN_HD bool contains(int32_t column, int32_t row) const {
    return column >= 0 && column < width && row >= 0 && row < height;
  }
  // Depth in mm at a whole pixel; the background outside the frame.
  POSEREN_HD float tap(int32_t column, int32_t row) const {
    if (!contains(column, row)) return view.background;
    const float stored = to_float(frame[row * row_stride + column]);
    return replace ? depth_of<true>(stored, view, unit) : depth_of<false>(stored, view, unit);
  }
  // Whether the depth that `tap` gives there follows the stored one.
  POSEREN_HD bool follows(int32_t column, int32_t row) const {
    if (!contains(column, row)) return false;
    const float stored = to_float(frame[row * row_stride + column]);
    return !replace || (stored != 0 && is_finite(stored));
  }
  // Two neighbours in a row, mixed.
  POSEREN_HD float across(Cell x, int32_t row) const {
    return mix(tap(x.index, row), tap(x.index + 1, row), x.fraction);
  }
};

template <class T>
POSEREN_HD inline CropSource<T> crop_source(const DepthFrames& depth, const CropGeometry& g, int64_t sample) {
  return {depth.frame<T>(sample),    depth.height, depth.width, depth.row_stride, crop_view(g, sample), g.unit,
          g.invalid != Invalid::keep};
}

// Where an output pixel looks.
struct Look {
  Cell x, y;
};

template <class T>
POSEREN_HD inline Look look_from(const CropSource<T>& source, double x, double y, bool nearest) {  // crop_coordinates
  const CropView& view = source.view;
  x -= view.shift_x;
  y -= view.shift_y;
  const double half = nearest ? 0.5 : 0.0;
  return {cell_at(place_u(view, x, y) + half, static_cast<double>(source.width)),
          cell_at(place_v(view, x, y) + half, static_cast<double>(source.height))};
}

template <class T>
POSEREN_HD inline Look look_of_pixel(const CropSource<T>& source, const CropGeometry& g, int64_t row, int64_t column) {
  return look_from(source, crop_coordinate(column, g.size), crop_coordinate(row, g.size), g.nearest);
}

template <class T>
POSEREN_HD inline float depth_at(const CropSource<T>& source, const Look& look, bool nearest) {
  if (nearest) return source.tap(look.x.index, look.y.index);
  return mix(source.across(look.x, look.y.index), source.across(look.x, look.y.index + 1), look.y.fraction);
}

// The output pixel at the crop_coordinates x, y.
template <class T>
POSEREN_HD inline float crop_value(const CropSource<T>& source, double x, double y, bool nearest) {
  if (!source.view.usable) return kNaN<float>;
  return normalized_depth(depth_at(source, look_from(source, x, y, nearest), nearest), source.view);
}

}  // namespace poseren
