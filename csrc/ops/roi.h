// SPDX-License-Identifier: MIT
// Arguments that say where guided joints look.
#pragma once

#include "ops/tensor.h"

namespace poseren::ops {

inline RoiGeometry roi_geometry(const char* op, int64_t image_size, int64_t roi_size, double spatial_scale) {
  check(roi_size > 0 && roi_size < image_size, op, "roi_size must be 1 to image_size - 1");
  // Cells are counted in int32, and exactly in float32.
  check(spatial_scale > 0 && static_cast<double>(image_size) * spatial_scale < (1 << 24), op,
        "spatial_scale must be positive, and image_size * spatial_scale below 2^24 cells");
  return {static_cast<float>(image_size), static_cast<float>(roi_size), static_cast<float>(spatial_scale)};
}

}  // namespace poseren::ops
