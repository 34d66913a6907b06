// SPDX-License-Identifier: MIT
// Regions of a feature map around guided joints, and their gradients (paper, section 3.2): the parameters of the three
// ops and the maths of one bin or one sampling point. The loops over them are written per device.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/dtype.h"
#include "core/number.h"
#include "core/roi_window.h"

namespace poseren {

// Strides of a feature map [B, C, H, W], in elements.
struct MapStrides {
  int64_t sample, channel, row, column;
};

// The parameters that the op shares with its gradients.
struct RegionPool {
  int64_t batch, channels, height, width;
  int64_t num_joints, num_axes;  // of pose [B, J, D]
  int64_t bins;                  // P, along each side of a region
  int64_t samples;               // align: sampling points along each side of a bin
  bool align;                    // RoI align; otherwise RoI max pooling
  DType dtype;                   // of features, regions and their gradients
  DType pose_dtype;              // float32 or float64
  RoiGeometry geometry;
  JointList joints;  // M of them
};

struct PoseRoiPool {
  RegionPool pool;
  const void* features;  // [B, C, H, W]
  MapStrides strides;
  const void* pose;  // [B, J, D], normalised
  void* regions;     // [B, M, C, P, P]
};

// The gradient of the features. Each cell has one sum, in the order of regions, then bins, then sampling points.
struct PoseRoiPoolFeatureGrad {
  RegionPool pool;
  const void* grad;      // [B, M, C, P, P]
  const void* features;  // [B, C, H, W]; read in max mode only
  MapStrides strides;
  const void* pose;    // [B, J, D]
  void* feature_grad;  // [B, C, H, W]
  MapStrides grad_strides;
};

// The gradient of the pose, in align mode only.
struct PoseRoiPoolPoseGrad {
  RegionPool pool;
  const void* grad;      // [B, M, C, P, P]
  const void* features;  // [B, C, H, W]
  MapStrides strides;
  const void* pose;  // [B, J, D]
  void* pose_grad;   // [B, J, D], of the pose's type
};

POSEREN_HD inline int64_t joint_offset(const RegionPool& p, int64_t sample, int64_t m) {
  return (sample * p.num_joints + p.joints.joint[m]) * p.num_axes;
}

// The window of region m, computed in float32 for poses of any dtype.
template <class Position>
POSEREN_HD inline Window region_window(const RegionPool& p, const Position* pose, int64_t sample, int64_t m) {
  const Position* joint = pose + joint_offset(p, sample, m);
  const float xy[2] = {static_cast<float>(joint[0]), static_cast<float>(joint[1])};
  return window_at(xy, p.geometry);
}

// --- RoI max pooling ------------------------------------------------------------------------------------------------

// The cells of a bin along one axis of a window, clipped to the map. Bins may overlap and may be empty.
POSEREN_HD inline Range bin_range(int32_t first, int32_t last, int64_t bin, int64_t bins, int64_t size) {
  const int64_t extent = last - first + 1;
  const int64_t low = first + bin * extent / bins;
  const int64_t high = first + ((bin + 1) * extent + bins - 1) / bins;
  return {low < size ? low : size, high < size ? high : size};
}

// True if every bin is one cell: then pooling is cropping.
POSEREN_HD inline bool is_crop(const Window& w, int64_t bins) {
  return w.x1 - w.x0 + 1 == bins && w.y1 - w.y0 + 1 == bins;
}

struct MapCell {
  int64_t row, column;  // -1: none
};

// The bin's largest value, the first of equals in row-major order; NaN counts as larger than every number.
template <class T>
POSEREN_HD inline MapCell max_cell(const T* plane, const MapStrides& s, Range rows, Range columns) {
  MapCell best{-1, -1};
  Accumulator<T> top = 0;
  for (int64_t y = rows.first; y < rows.last; y++) {
    for (int64_t x = columns.first; x < columns.last; x++) {
      const Accumulator<T> value = load(plane + y * s.row + x * s.column);
      if (best.row >= 0 && value <= top) continue;  // false for NaN
      best = {y, x};
      top = value;
      if (top != top) return best;
    }
  }
  return best;
}

// --- RoI align ------------------------------------------------------------------------------------------------------

// The sampling points of a region along one axis, in cells; cell centres are at whole numbers.
template <class Position>
struct SampleGrid {
  Position start, step;
};

template <class Position>
POSEREN_HD inline SampleGrid<Position> sample_grid(const RegionPool& p, Position center) {
  const RoiGeometry& g = p.geometry;
  const Position start = ((center + 1) * g.image / 2 - g.roi / 2) * g.scale - Position(0.5);
  return {start, static_cast<Position>(static_cast<double>(g.roi) * g.scale / p.bins / p.samples)};
}

// How many cells a sampling point moves per unit of the normalised pose.
POSEREN_HD inline float cells_per_unit(const RoiGeometry& g) {
  return g.image / 2 * g.scale;
}

// A sampling point along one axis: (1 - weight) * low + weight * high.
template <class Weight>
struct Tap {
  int64_t low, high;  // cells
  Weight weight;
  bool inside;  // on the map or at most one cell outside it; other points count as 0
  bool moves;   // the value depends on the position: the point was not clamped to the map
};

template <class Weight, class Position>
POSEREN_HD inline Tap<Weight> sample_tap(const SampleGrid<Position>& grid, int64_t index, int64_t size) {
  const Position position = grid.start + (static_cast<Position>(index) + Position(0.5)) * grid.step;
  const Position last = static_cast<Position>(size - 1);
  if (!(position >= -1 && position <= last + 1)) return {0, 0, 0, false, false};
  const Position placed = position < 0 ? 0 : position > last ? last : position;
  const int64_t low = static_cast<int64_t>(placed);
  const int64_t high = low + 1 < size ? low + 1 : low;
  return {low, high, static_cast<Weight>(placed - static_cast<Position>(low)), true, placed == position};
}

// Derivative of a value by the position of its region, per cell.
struct Slope {
  double x, y;
};

// call(Type<T>{}, Type<Position>{}) for the dtypes of the features and of the pose.
template <class Call>
void visit_pool(const RegionPool& p, const Call& call) {
  visit_features(p.dtype, [&]<class T>(Type<T> type) {
    p.pose_dtype == DType::f64 ? call(type, Type<double>{}) : call(type, Type<float>{});
  });
}

}  // namespace poseren
