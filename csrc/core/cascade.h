// SPDX-License-Identifier: MIT
// The cascade's parameters: P_t = R(P_{t-1}, F) with one model R for every stage (paper, algorithm 1).
//
// R depends on the pose only through its windows. Hence the exact shortcut: a region whose window did not move keeps
// its first layer's output and what that gives to the sums of its fingers' second layers (CUDA: a finger none of whose
// regions moved keeps its second layer's output), and a sample none of whose windows moved is at a fixed point.
#pragma once

#include <cstdint>

#include "core/dtype.h"
#include "core/pose_roi_pool.h"

namespace poseren {

// A fully connected layer for each of G groups: [G, K] -> [G, R].
struct HeadLayer {
  const void* weight;  // [G, R, K], of the head's type
  const float* scale;  // [G, R], of int8 weights; null for the other types
  const float* bias;   // [G, R]
  int64_t groups, rows, depth;
};

// The regions whose first layers feed a finger's second one. A region may feed several fingers, or none.
struct FingerTree {
  static constexpr int64_t kCapacity = 256;
  int64_t fingers, members;   // F, K
  int16_t region[kCapacity];  // [F, K]

  POSEREN_HD int64_t slots() const { return fingers * members; }
};

struct CascadeRefine {
  RegionPool pool;        // of float32 features, for poses [B, J, 3] in float32
  const float* features;  // [B, C, H, W]
  MapStrides strides;
  const float* pose;    // [B, J, 3], normalised
  float* poses;         // [T+1, B, J, 3]
  int32_t* stages_run;  // [B]: stage 1, and every later stage before which a window of the sample moved
  int64_t stages;       // T
  DType weight_dtype;   // float32, bfloat16 or int8; sums are float32 (of int8 on some CPUs exact)
  HeadLayer region;     // M groups: C*P*P -> W1, ReLU
  HeadLayer finger;     // F groups: K*W1 -> W2, ReLU
  HeadLayer joint;      // 1 group: F*W2 -> 3J
  FingerTree tree;
  void* scratch;  // scratch_bytes() of the device that runs it
};

}  // namespace poseren
