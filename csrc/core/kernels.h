// SPDX-License-Identifier: MIT
// What each device implements: run(parameters, queue) for every op. The type of the queue chooses the device.
#pragma once

#include "core/cascade.h"
#include "core/depth_crop.h"
#include "core/hand_center.h"
#include "core/pose_roi_pool.h"

// scratch_bytes is the temporary memory that one call needs; the caller allocates it.
#define POSEREN_DECLARE_KERNELS                               \
  int64_t scratch_bytes(const HandCenter& p, Queue queue);    \
  int64_t scratch_bytes(const CascadeRefine& p, Queue queue); \
  void run(const HandCenter& p, Queue queue);                 \
  void run(const DepthCrop& p, Queue queue);                  \
  void run(const DepthCropBackward& p, Queue queue);          \
  void run(const RoiWindows& p, Queue queue);                 \
  void run(const PoseRoiPool& p, Queue queue);                \
  void run(const PoseRoiPoolFeatureGrad& p, Queue queue);     \
  void run(const PoseRoiPoolPoseGrad& p, Queue queue);        \
  void run(const CascadeRefine& p, Queue queue);

namespace poseren::cpu {

struct Queue {};
POSEREN_DECLARE_KERNELS

}  // namespace poseren::cpu

namespace poseren::cuda {

struct Queue {
  void* stream;  // a cudaStream_t, opaque so that callers need no CUDA header
};
POSEREN_DECLARE_KERNELS

}  // namespace poseren::cuda

#undef POSEREN_DECLARE_KERNELS
