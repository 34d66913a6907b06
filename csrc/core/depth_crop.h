// SPDX-License-Identifier: MIT
// The crop of the cube around the hand: the network's input, resized, clamped and normalised (paper, section 3.5).
//
// Positions are computed in float64, values in float32, in one order of operations. Every device gives the same bits if
// products and sums are not contracted (nvcc: -fmad=false).
#pragma once

#include <cfloat>
#include <cmath>
#include <cstdint>

#include "core/dtype.h"
#include "core/number.h"

namespace poseren {

enum class Invalid : int32_t {
  keep = 0,        // stored values as they are
  background = 1,  // values that are no depth (0, negative, NaN, infinite) become the cube's far face
  value = 2,       // they become a given depth
};

// One row of numbers per sample.
struct SampleRows {
  const float* data;
  int64_t step;  // elements from row to row; 0 if all samples share one row

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

// The map from the crop of one sample to its frame. x and y below are normalised crop coordinates minus the transform's
// translation.
struct CropView {
  double cu, cv;
  double ux, uy, vx, vy;      // frame pixels per unit of x and y
  double shift_x, shift_y;    // the transform's translation
  float z, half, background;  // mm: the centre's depth, the cube's half edge and far face
  float replacement;          // mm, replaces invalid values
  bool usable;                // false: the patch is NaN and the frame is not read
};

POSEREN_HD inline bool is_finite(float value) {
  return fabsf(value) <= FLT_MAX;
}
POSEREN_HD inline bool is_length(float value) {
  return (value > 0) & (value <= FLT_MAX);  // not &&: a branch would prevent vectorisation
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
  if (g.transform) {  // crop coordinates go through its inverse
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

POSEREN_HD inline double frame_u(const CropView& view, double x, double y) {
  return view.cu + (x * view.ux + y * view.uy);
}
POSEREN_HD inline double frame_v(const CropView& view, double x, double y) {
  return view.cv + (x * view.vx + y * view.vy);
}

// Corner to corner: -1 for the first output pixel of an axis, 1 for the last.
POSEREN_HD inline double crop_coordinate(int64_t index, int64_t size) {
  return 2.0 * static_cast<double>(index) / static_cast<double>(size - 1) - 1.0;
}

// A position along one axis of the frame: the pixel at or before it, and the distance from that pixel.
struct Cell {
  int32_t index;  // clamped to -2..size: positions outside the frame are all alike
  float fraction;
};

POSEREN_HD inline Cell cell_at(double position, double size) {
  const double low = floor(position);
  const double near = low > -2 ? low : -2;  // also for NaN
  return {static_cast<int32_t>(near < size ? near : size), static_cast<float>(position - low)};
}

// The depth in mm of a stored value.
template <bool kReplace>
POSEREN_HD inline float depth_of(float stored, const CropView& view, float unit) {
  if constexpr (kReplace) return is_length(stored) ? stored * unit : view.replacement;
  return stored * unit;
}

POSEREN_HD inline float mix(float first, float second, float fraction) {
  return (1 - fraction) * first + fraction * second;
}

POSEREN_HD inline float normalized_depth(float depth, const CropView& view) {
  const float offset = depth - view.z;
  const float above = offset < -view.half ? -view.half : offset;  // NaN stays
  return (above > view.half ? view.half : above) / view.half;
}

// A frame and its view: the input of one output pixel.
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
  // The depth in mm at a pixel; the background outside the frame.
  POSEREN_HD float tap(int32_t column, int32_t row) const {
    if (!contains(column, row)) return view.background;
    const float stored = to_float(frame[row * row_stride + column]);
    return replace ? depth_of<true>(stored, view, unit) : depth_of<false>(stored, view, unit);
  }
  // Whether the result of `tap` depends on the stored value.
  POSEREN_HD bool depends(int32_t column, int32_t row) const {
    if (!contains(column, row)) return false;
    return !replace || is_length(to_float(frame[row * row_stride + column]));
  }
  // Interpolates between two neighbours in a row.
  POSEREN_HD float across(Cell x, int32_t row) const {
    return mix(tap(x.index, row), tap(x.index + 1, row), x.fraction);
  }
};

template <class T>
POSEREN_HD inline CropSource<T> crop_source(const DepthFrames& depth, const CropGeometry& g, int64_t sample) {
  return {depth.frame<T>(sample),    depth.height, depth.width, depth.row_stride, crop_view(g, sample), g.unit,
          g.invalid != Invalid::keep};
}

// The position in the frame of an output pixel.
struct FramePoint {
  Cell x, y;
};

template <class T>
POSEREN_HD inline FramePoint frame_point(const CropSource<T>& source, double x, double y, bool nearest) {
  const CropView& view = source.view;
  x -= view.shift_x;
  y -= view.shift_y;
  const double half = nearest ? 0.5 : 0.0;
  return {cell_at(frame_u(view, x, y) + half, static_cast<double>(source.width)),
          cell_at(frame_v(view, x, y) + half, static_cast<double>(source.height))};
}

template <class T>
POSEREN_HD inline FramePoint frame_point(const CropSource<T>& source, const CropGeometry& g, int64_t row,
                                         int64_t column) {
  return frame_point(source, crop_coordinate(column, g.size), crop_coordinate(row, g.size), g.nearest);
}

template <class T>
POSEREN_HD inline float depth_at(const CropSource<T>& source, const FramePoint& point, bool nearest) {
  if (nearest) return source.tap(point.x.index, point.y.index);
  return mix(source.across(point.x, point.y.index), source.across(point.x, point.y.index + 1), point.y.fraction);
}

// The output pixel at the crop coordinates x, y.
template <class T>
POSEREN_HD inline float crop_value(const CropSource<T>& source, double x, double y, bool nearest) {
  if (!source.view.usable) return kNaN<float>;
  return normalized_depth(depth_at(source, frame_point(source, x, y, nearest), nearest), source.view);
}

}  // namespace poseren
