// SPDX-License-Identifier: MIT
// The parameters of the cascade: P_t = R(P_{t-1}, F) with one model R for every stage (paper, section 3).
//
// R depends on the pose only through its windows, so work can be memoised exactly: a region whose window did not move
// reuses its hidden activation and, on the CPU, its partial sum in the finger layer (on CUDA a finger none of whose
// regions moved reuses its hidden activation). A sample none of whose windows moved keeps its pose.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/pose_roi_pool.h"

namespace poseren {

// A fully connected layer for each of G groups: [G, K] -> [G, R].
struct HeadLayer {
  const void* weight;  // [G, R, K], of weight_dtype
  const float* scale;  // [G, R] for int8 weights, else null
  const float* bias;   // [G, R]
  int64_t groups, rows, depth;
};

// The regions that feed each finger's layer. A region may feed several fingers, or none.
struct FingerTree {
  static constexpr int64_t kCapacity = 256;
  int64_t fingers, members;   // F, K
  int16_t region[kCapacity];  // [F, K]

  POSEREN_HD int64_t slots() const { return fingers * members; }
};

struct CascadeRefine {
  RegionPool pool;        // features and pose are float32, the pose is [B, J, 3]
  const float* features;  // [B, C, H, W]
  MapStrides strides;
  const float* pose;    // [B, J, 3], normalised
  float* poses;         // [T+1, B, J, 3]
  int32_t* stages_run;  // [B]: counts stage 1 and every later stage before which a window of the sample moved
  int64_t stages;       // T
  DType weight_dtype;   // float32, bfloat16 or int8; sums are float32 (exact for int8 on CPUs with VNNI)
  HeadLayer region;     // M groups: C*P*P -> W1, ReLU
  HeadLayer finger;     // F groups: K*W1 -> W2, ReLU
  HeadLayer joint;      // 1 group: F*W2 -> 3J
  FingerTree tree;
  void* scratch;  // scratch_bytes() bytes
};

}  // namespace poseren
