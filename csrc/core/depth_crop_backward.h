// SPDX-License-Identifier: MIT
// The depth crop's gradient to the depth image.
//
// Each stored depth gets one float32 sum over the output pixels that look at it, rows first: a scatter that takes the
// output pixels in this order and a gather that looks for them give the same bits.
#pragma once

#include "core/depth_crop.h"

namespace poseren {

// What one output pixel hands to the depths it looks at, before their weights: 0 where the clamp cuts.
template <class T>
POSEREN_HD inline float pixel_gradient(const CropSource<T>& source, const Look& look, bool nearest, float grad) {
  const float offset = depth_at(source, look, nearest) - source.view.z;
  const bool passes = offset >= -source.view.half && offset <= source.view.half;  // not for NaN
  return passes ? grad / source.view.half * source.unit : 0.f;
}

// The weight of the pixel `index` along one axis: 0 if it is not among the two that the cell mixes.
POSEREN_HD inline float cell_weight(Cell cell, int32_t index, bool nearest) {
  if (index == cell.index) return nearest ? 1.f : 1 - cell.fraction;
  return index == cell.index + 1 && !nearest ? cell.fraction : 0.f;
}

// Output rows or columns first..last (half open).
struct IndexRange {
  int64_t first, last;
};

// The output pixels along one axis whose normalised coordinate lies within `reach` of `middle`.
POSEREN_HD inline IndexRange outputs_near(double middle, double reach, int64_t size) {
  const double step = static_cast<double>(size - 1) / 2;
  const double margin = 1e-6 * (1 + reach * step);  // rounding must not lose one
  const double first = ceil((middle - reach + 1) * step - margin), last = floor((middle + reach + 1) * step + margin);
  IndexRange range{0, size};  // whatever is not a number leaves the range whole
  if (first > 0) range.first = first < static_cast<double>(size) ? static_cast<int64_t>(first) : size;
  if (last < static_cast<double>(size - 1)) range.last = last >= 0 ? static_cast<int64_t>(last) + 1 : 0;
  return range;
}

// The gradient of the depth stored at (row, column) of a usable sample; grad: [S, S] of the sample.
template <class T, class G>
POSEREN_HD inline float depth_gradient(const CropSource<T>& source, const CropGeometry& g, const G* grad, int32_t row,
                                       int32_t column) {
  if (!source.follows(column, row)) return 0;
  // Places less than a pixel away in u and v, carried back to the crop: a parallelogram, and the box around it.
  const CropView& view = source.view;
  const double direct = view.ux * view.vy, crossed = view.uy * view.vx;
  // Where the map nearly folds onto a line its inverse is not to be trusted: NaN makes every output a candidate.
  const bool folds = fabs(direct - crossed) <= 1e-6 * (fabs(direct) + fabs(crossed));
  const double determinant = folds ? kNaN<double> : direct - crossed;
  const double xu = view.vy / determinant, xv = -view.uy / determinant;
  const double yu = -view.vx / determinant, yv = view.ux / determinant;
  const double du = column - view.cu, dv = row - view.cv;
  const IndexRange columns = outputs_near(xu * du + xv * dv + view.shift_x, fabs(xu) + fabs(xv), g.size);
  const IndexRange rows = outputs_near(yu * du + yv * dv + view.shift_y, fabs(yu) + fabs(yv), g.size);
  float sum = 0;
  for (int64_t j = rows.first; j < rows.last; j++)
    for (int64_t i = columns.first; i < columns.last; i++) {
      const Look look = look_of_pixel(source, g, j, i);
      const float weight = cell_weight(look.y, row, g.nearest) * cell_weight(look.x, column, g.nearest);
      if (weight != 0) sum += weight * pixel_gradient(source, look, g.nearest, to_float(grad[j * g.size + i]));
    }
  return sum;
}

}  // namespace poseren
