// SPDX-License-Identifier: MIT
// The state of the cascade for many samples, in device memory: the work list of every layer and the values that are
// kept from stage to stage.
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
  int64_t first;            // sample of the call that is sample 0 here
  int count;                // samples at once
  int capacity;             // of each list, of rows a group: at least count
  Window* known;            // [count, M]: of the last stage
  uint8_t* needs;           // [lists, capacity]: whether the list holds the sample
  int* samples;             // [lists, capacity]
  int* sizes;               // [lists]
  SplitRows pooled;         // [M, capacity] rows of C*P*P
  SplitRows region_hidden;  // [capacity, F] rows of K*W1: hidden activations, adjacent as the fingers read them
  SplitRows finger_hidden;  // [capacity] rows of F*W2
  float* partial;           // [splits, capacity, 3J]: the pose's sums over parts of the depth

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

// The pose layer is deep and has few rows: blocks share its depth.
inline constexpr int64_t kPoseSlice = 256;
POSEREN_HD inline int64_t pose_slices(const CascadeRefine& op) {
  return (op.joint.depth + kPoseSlice - 1) / kPoseSlice;
}

// Lays the arrays of a BatchCascade out in memory from `begin` on.
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

// Samples `first` and the following, as many as go at once; `layout` ends up behind the arrays.
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
