// SPDX-License-Identifier: MIT
// The state of the cascade for a large batch, in device memory: the work list of each layer, and the activations that
// later stages reuse.
#pragma once

#include <algorithm>

#include "core/cascade.h"
#include "cuda/tensor_core.h"

namespace poseren::cuda {

// Rows of values, each split into kParts bfloat16, 16-byte aligned.
struct SplitRows {
  BFloat16* data;
  int64_t stride, part_stride;  // elements from row to row, from part to part

  __device__ BFloat16* row(int64_t row, int part) const { return data + part * part_stride + row * stride; }
  __device__ void store(int64_t at_row, int64_t column, float value) const {
    BFloat16 parts[kParts];
    split(value, parts);
    for (int part = 0; part < kParts; part++) row(at_row, part)[column] = parts[part];
  }
};

// Lists of samples: one for each region, then one for each finger, then one for the pose.
struct BatchCascade {
  CascadeRefine op;
  int64_t first;            // index in the batch of the first sample
  int count;                // samples in this pass
  int capacity;             // samples that each list and each group of rows can hold; at least count
  Window* known;            // [count, M]: windows of the previous stage
  uint8_t* needs;           // [lists, capacity]: whether the sample is in the list
  int* samples;             // [lists, capacity]
  int* sizes;               // [lists]
  SplitRows pooled;         // [M, capacity] rows of C*P*P
  SplitRows region_hidden;  // [capacity, F] rows of K*W1: the inputs of a finger are adjacent
  SplitRows finger_hidden;  // [capacity] rows of F*W2
  float* partial;           // [slices, capacity, 3J]: partial sums of the pose layer

  POSEREN_HD int num_regions() const { return static_cast<int>(op.pool.joints.count); }
  POSEREN_HD int num_fingers() const { return static_cast<int>(op.tree.fingers); }
  POSEREN_HD int finger_list(int finger) const { return num_regions() + finger; }
  POSEREN_HD int pose_list() const { return num_regions() + num_fingers(); }
  POSEREN_HD int num_lists() const { return pose_list() + 1; }

  __device__ int sample(int list, int i) const { return samples[int64_t{list} * capacity + i]; }
  __device__ float* pose(int64_t stage, int64_t sample) const {
    return op.poses + (stage * op.pool.batch + first + sample) * op.pool.num_joints * op.pool.num_axes;
  }
};

// Split-K: the pose layer has a large depth and few rows, so that blocks divide its depth among them.
inline constexpr int64_t kPoseSlice = 256;
POSEREN_HD inline int64_t pose_slices(const CascadeRefine& op) {
  return (op.joint.depth + kPoseSlice - 1) / kPoseSlice;
}

// Assigns addresses in the scratch memory to the arrays of a BatchCascade.
class ScratchLayout {
 public:
  explicit ScratchLayout(void* begin) : begin_(static_cast<char*>(begin)) {}

  template <class T>
  T* take(int64_t count) {
    T* const array = reinterpret_cast<T*>(begin_ + used_);
    used_ += (count * static_cast<int64_t>(sizeof(T)) + 255) / 256 * 256;
    return array;
  }
  SplitRows take_rows(int64_t rows, int64_t size) {
    const int64_t stride = (size + 7) / 8 * 8;
    return {take<BFloat16>(rows * stride * kParts), stride, rows * stride};
  }
  int64_t bytes() const { return used_; }

 private:
  char* begin_;
  int64_t used_ = 0;
};

inline constexpr int64_t kSamplesAtOnce = 512;  // bounds the scratch memory

// The cascade of the pass that begins at sample `first`. Advances `layout` past its arrays.
inline BatchCascade batch_cascade(const CascadeRefine& op, int64_t first, ScratchLayout& layout) {
  BatchCascade c{};
  c.op = op;
  c.first = first;
  c.count = static_cast<int>(std::min(op.pool.batch - first, kSamplesAtOnce));
  c.capacity = static_cast<int>(std::min(op.pool.batch, kSamplesAtOnce));
  const int64_t lists = c.num_lists(), capacity = c.capacity;
  c.known = layout.take<Window>(capacity * c.num_regions());
  c.needs = layout.take<uint8_t>(lists * capacity);
  c.samples = layout.take<int>(lists * capacity);
  c.sizes = layout.take<int>(lists);
  c.pooled = layout.take_rows(capacity * c.num_regions(), op.region.depth);
  c.region_hidden = layout.take_rows(capacity * c.num_fingers(), op.finger.depth);
  c.finger_hidden = layout.take_rows(capacity, op.joint.depth);
  c.partial = layout.take<float>(pose_slices(op) * capacity * op.joint.rows);
  return c;
}

}  // namespace poseren::cuda
