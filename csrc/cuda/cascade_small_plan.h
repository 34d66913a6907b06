// SPDX-License-Identifier: MIT
// The work list of a stage for a small batch. Every block computes the same list in its own shared memory, so that no
// communication between blocks is needed.
#pragma once

#include "core/cascade.h"
#include "cuda/launch.h"

namespace poseren::cuda {

inline constexpr int kSmallBatch = 8;

// A set of samples is a bit mask: bit b is sample b.
struct CascadePlan {
  Window known[kSmallBatch * JointList::kCapacity];  // [B, M]: windows of the previous stage
  unsigned region_samples[JointList::kCapacity];     // [M]: samples whose region must be computed
  unsigned finger_samples[FingerTree::kCapacity];    // [F]: samples whose finger must be computed
  bool used[JointList::kCapacity];                   // [M]: whether the region feeds a finger
  int16_t regions[JointList::kCapacity];             // regions with samples
  int16_t fingers[FingerTree::kCapacity];            // fingers with samples
  int num_regions, num_fingers;
  unsigned moved, used_moved, invalid;
  unsigned needed;  // samples whose pose must be computed; others keep theirs or are invalid
};

class CascadePlanner {
 public:
  __device__ CascadePlanner(const CascadeRefine& op, CascadePlan& plan) : op_(op), plan_(plan) {
    for (int m = thread(); m < regions(); m += threads()) plan_.used[m] = false;
    __syncthreads();
    if (thread() == 0)
      for (int slot = 0; slot < op_.tree.slots(); slot++) plan_.used[op_.tree.region[slot]] = true;
  }

  // Must be called for stages 1, 2, ... in this order, by all threads of the block.
  __device__ void plan_stage(int64_t stage) {
    const Before before{stage, stage > 1 ? plan_.needed : 0, stage > 1 ? plan_.invalid : 0};
    __syncthreads();
    clear();
    __syncthreads();
    for (int i = thread(); i < batch() * regions(); i += threads()) plan_region(before, i / regions(), i % regions());
    __syncthreads();
    const unsigned needed = plan_.used_moved & ~plan_.invalid;
    for (int m = thread(); m < regions(); m += threads()) plan_.region_samples[m] &= needed;
    __syncthreads();
    for (int f = thread(); f < op_.tree.fingers; f += threads()) plan_.finger_samples[f] = samples_of_finger(f);
    __syncthreads();
    if (thread() == 0) {
      plan_.needed = needed;
      plan_.num_regions = compact(plan_.region_samples, regions(), plan_.regions);
      plan_.num_fingers = compact(plan_.finger_samples, static_cast<int>(op_.tree.fingers), plan_.fingers);
    }
    __syncthreads();
  }

  // The pose that a stage starts from, [J, 3].
  __device__ const float* pose_before(int64_t stage, int sample) const {
    const int64_t size = op_.pool.num_joints * op_.pool.num_axes;
    const float* poses = stage > 1 ? op_.poses + (stage - 1) * op_.pool.batch * size : op_.pose;
    return poses + sample * size;
  }

 private:
  struct Before {
    int64_t stage;
    unsigned needed, invalid;  // sets of the previous stage
  };

  __device__ static int thread() { return static_cast<int>(threadIdx.x); }
  __device__ static int threads() { return static_cast<int>(blockDim.x); }
  __device__ int batch() const { return static_cast<int>(op_.pool.batch); }
  __device__ int regions() const { return static_cast<int>(op_.pool.joints.count); }

  __device__ void clear() {
    for (int m = thread(); m < regions(); m += threads()) plan_.region_samples[m] = 0;
    if (thread() == 0) plan_.moved = plan_.used_moved = plan_.invalid = 0;
  }

  __device__ void plan_region(const Before& before, int sample, int m) {
    const unsigned bit = 1u << sample;
    Window& known = plan_.known[sample * regions() + m];
    const Window window = window_now(before, sample, m, known);
    const bool moved = before.stage == 1 || op_.pool.align || !(window == known);
    known = window;
    if (moved) atomicOr(&plan_.moved, bit);
    if (!plan_.used[m]) return;
    if (is_invalid(window)) atomicOr(&plan_.invalid, bit);
    if (!moved) return;
    atomicOr(&plan_.used_moved, bit);
    atomicOr(&plan_.region_samples[m], bit);
  }

  // Reads only poses that the previous stage computed, because other poses may not have reached memory yet.
  __device__ Window window_now(const Before& before, int sample, int m, const Window& known) const {
    const bool invalid = before.invalid >> sample & 1, computed = before.needed >> sample & 1;
    if (invalid) return {-1, -1, -1, -1};
    if (before.stage > 1 && !computed) return known;
    return window_at(pose_before(before.stage, sample) + joint_offset(op_.pool, 0, m), op_.pool.geometry);
  }

  __device__ unsigned samples_of_finger(int finger) const {
    unsigned samples = 0;
    for (int k = 0; k < op_.tree.members; k++)
      samples |= plan_.region_samples[op_.tree.region[finger * op_.tree.members + k]];
    return samples;
  }

  __device__ static int compact(const unsigned* samples, int count, int16_t* list) {
    int found = 0;
    for (int i = 0; i < count; i++)
      if (samples[i]) list[found++] = static_cast<int16_t>(i);
    return found;
  }

  const CascadeRefine& op_;
  CascadePlan& plan_;
};

}  // namespace poseren::cuda
