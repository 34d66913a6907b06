// SPDX-License-Identifier: MIT
// The gradient of the depth image.
//
// Each stored depth has one float32 sum over the output pixels that read it, in row-major order. The CPU scatters in
// that order and CUDA gathers in it, so both give the same bits.
#pragma once

#include "core/depth_crop.h"

namespace poseren {

// The gradient of an output pixel's depth before normalisation; 0 where the clamp is active.
template <class T>
POSEREN_HD inline float pixel_gradient(const CropSource<T>& source, const FramePoint& point, bool nearest, float grad) {
  const float offset = depth_at(source, point, nearest) - source.view.z;
  const bool passes = offset >= -source.view.half && offset <= source.view.half;  // not for NaN
  return passes ? grad / source.view.half * source.unit : 0.f;
}

// The interpolation weight of pixel `index` along one axis.
POSEREN_HD inline float cell_weight(Cell cell, int32_t index, bool nearest) {
  if (index == cell.index) return nearest ? 1.f : 1 - cell.fraction;
  return index == cell.index + 1 && !nearest ? cell.fraction : 0.f;
}

// The output pixels along one axis whose normalised coordinate lies within `reach` of `middle`.
POSEREN_HD inline Range outputs_near(double middle, double reach, int64_t size) {
  const double step = static_cast<double>(size - 1) / 2;
  const double margin = 1e-6 * (1 + reach * step);  // so that rounding loses no pixel
  const double first = ceil((middle - reach + 1) * step - margin), last = floor((middle + reach + 1) * step + margin);
  Range range{0, size};  // stays whole if a bound is NaN
  if (first > 0) range.first = first < static_cast<double>(size) ? static_cast<int64_t>(first) : size;
  if (last < static_cast<double>(size - 1)) range.last = last >= 0 ? static_cast<int64_t>(last) + 1 : 0;
  return range;
}

// The gradient of the depth at (row, column) of a usable sample; grad: [S, S].
template <class T, class G>
POSEREN_HD inline float depth_gradient(const CropSource<T>& source, const CropGeometry& g, const G* grad, int32_t row,
                                       int32_t column) {
  if (!source.depends(column, row)) return 0;
  // The points less than a pixel away in u and v form a parallelogram in the crop; search its bounding box.
  const CropView& view = source.view;
  const double direct = view.ux * view.vy, crossed = view.uy * view.vx;
  // If the map is nearly singular its inverse is unreliable: NaN makes the search cover the whole crop.
  const bool folds = fabs(direct - crossed) <= 1e-6 * (fabs(direct) + fabs(crossed));
  const double determinant = folds ? kNaN<double> : direct - crossed;
  const double xu = view.vy / determinant, xv = -view.uy / determinant;
  const double yu = -view.vx / determinant, yv = view.ux / determinant;
  const double du = column - view.cu, dv = row - view.cv;
  const Range columns = outputs_near(xu * du + xv * dv + view.shift_x, fabs(xu) + fabs(xv), g.size);
  const Range rows = outputs_near(yu * du + yv * dv + view.shift_y, fabs(yu) + fabs(yv), g.size);
  float sum = 0;
  for (int64_t j = rows.first; j < rows.last; j++)
    for (int64_t i = columns.first; i < columns.last; i++) {
      const FramePoint point = frame_point(source, g, j, i);
      const float weight = cell_weight(point.y, row, g.nearest) * cell_weight(point.x, column, g.nearest);
      if (weight != 0) sum += weight * pixel_gradient(source, point, g.nearest, to_float(grad[j * g.size + i]));
    }
  return sum;
}

}  // namespace poseren
