// SPDX-License-Identifier: MIT
#include "cpu/pose_roi_pool.h"

#include "cpu/fetch.h"
#include "cpu/parallel.h"
#include "cpu/pool_region.h"

namespace poseren::cpu {
namespace {

constexpr int64_t kRegionsPerThread = 8;

template <class T, class Position>
void pool_regions(const PoseRoiPool& op) {
  const RegionPool& p = op.pool;
  const int64_t count = p.joints.count, size = p.channels * p.bins * p.bins;
  const int64_t share = (p.channels * p.height * p.width + count - 1) / count;
  const T* features = static_cast<const T*>(op.features);
  const Position* pose = static_cast<const Position*>(op.pose);
  parallel_ranges(p.batch * count, kRegionsPerThread, [&](int64_t begin, int64_t end) {
    AlignTaps<T> taps;
    for (int64_t i = begin; i < end; i++) {
      const int64_t sample = i / count, m = i % count;
      const T* map = features + sample * op.strides.sample;
      T* region = static_cast<T*>(op.regions) + i * size;
      // A share of the next sample's map with each region of this one: nothing else foretells that it is needed.
      if (sample + 1 < p.batch) fetch<2>(map + op.strides.sample + m * share, share * static_cast<int64_t>(sizeof(T)));
      const Window w = region_window(p, pose, sample, m);
      if (is_nowhere(w)) {
        nowhere_region(p, region);
      } else if (p.align) {
        taps.place(p, pose + joint_offset(p, sample, m));
        align_region(p, op.strides, map, taps, region);
      } else {
        max_region(p, op.strides, map, w, region);
      }
    }
  });
}

}  // namespace

void run(const PoseRoiPool& op, Queue) {
  visit_features(op.pool.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    op.pool.pose_dtype == DType::f64 ? pool_regions<T, double>(op) : pool_regions<T, float>(op);
  });
}

}  // namespace poseren::cpu
