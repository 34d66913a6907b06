// SPDX-License-Identifier: MIT
// The window of feature cells around a guided joint (paper, section 3.2, equations 3 and 4).
#pragma once

#include <cmath>
#include <cstdint>

#include "core/number.h"

namespace poseren {

struct RoiGeometry {
  float image;  // side of the depth crop, pixels
  float roi;    // side of a window, pixels
  float scale;  // feature cells per pixel
};

// The guided joints, by value: part of a kernel's parameters, so that nothing is copied to the device.
struct JointList {
  static constexpr int64_t kCapacity = 128;
  int32_t joint[kCapacity];
  int64_t count;
};

struct Window {
  int32_t x0, y0, x1, y1;  // first and last cell, inclusive; all -1 if the joint is not finite
};

POSEREN_HD inline bool operator==(const Window& a, const Window& b) {
  return a.x0 == b.x0 && a.y0 == b.y0 && a.x1 == b.x1 && a.y1 == b.y1;
}
POSEREN_HD inline bool is_invalid(const Window& w) {
  return w.x1 < 0;
}

// The cells along one axis for a joint at p in [-1, 1]; windows are moved inside the crop. False for an invalid p.
POSEREN_HD inline bool window_span(float p, const RoiGeometry& g, int32_t& first, int32_t& last) {
  if (!(fabsf(p) < 1e6f)) return false;  // written so that NaN is caught too
  const float middle = (p + 1) * g.image / 2;
  float low = middle - g.roi / 2;
  float high = middle + g.roi / 2;
  if (low < 0) {
    low = 0;
    high = g.roi;
  }
  if (high >= g.image - 1) {
    high = g.image - 1;
    low = g.image - 1 - g.roi;
  }
  first = static_cast<int32_t>(roundf(low * g.scale));  // half away from zero
  last = static_cast<int32_t>(roundf(high * g.scale));
  return true;
}

POSEREN_HD inline Window window_at(const float* p, const RoiGeometry& g) {  // p: [>=2] x, y of a normalised joint
  Window w;
  if (window_span(p[0], g, w.x0, w.x1) && window_span(p[1], g, w.y0, w.y1)) return w;
  return {-1, -1, -1, -1};
}

struct RoiWindows {
  const float* pose;  // [B, J, D], normalised, D >= 2
  Window* window;     // [B, M]
  JointList joints;   // M of them
  int64_t batch, num_joints, num_axes;
  RoiGeometry geometry;

  POSEREN_HD void operator()(int64_t region) const {
    const int64_t sample = region / joints.count, joint = joints.joint[region % joints.count];
    window[region] = window_at(pose + (sample * num_joints + joint) * num_axes, geometry);
  }
};

}  // namespace poseren
