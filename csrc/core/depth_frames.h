// SPDX-License-Identifier: MIT
// Depth images as they lie in memory.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/host_device.h"

namespace poseren {

struct DepthFrames {
  const void* data;  // [B, H, W]; the columns of a row lie side by side
  DType dtype;
  int64_t batch, height, width;
  int64_t frame_stride, row_stride;  // from a frame or row to the next, elements

  template <class T>
  POSEREN_HD const T* frame(int64_t sample) const {
    return static_cast<const T*>(data) + sample * frame_stride;
  }
};

}  // namespace poseren
