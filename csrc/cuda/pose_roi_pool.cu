// SPDX-License-Identifier: MIT
#include "core/kernels.h"
#include "cuda/pool_region.h"

namespace poseren::cuda {
namespace {

constexpr int kThreads = 256, kWindowThreads = 128;

// One thread per window.
__global__ void __launch_bounds__(kWindowThreads) roi_windows(const RoiWindows p, int64_t count) {
  const int64_t stride = int64_t{gridDim.x} * kWindowThreads;
  for (int64_t i = int64_t{blockIdx.x} * kWindowThreads + threadIdx.x; i < count; i += stride) p(i);
}

// One block per region.
template <class T, class Position, bool kAlign>
__global__ void __launch_bounds__(kThreads, 1) pose_roi_pool(const PoseRoiPool p) {
  const RegionPool& pool = p.pool;
  const int64_t sample = blockIdx.x / pool.joints.count, m = blockIdx.x % pool.joints.count;
  pool_region<kAlign>(pool, p.strides, static_cast<const T*>(p.features) + sample * p.strides.sample,
                      static_cast<const Position*>(p.pose) + joint_offset(pool, sample, m),
                      static_cast<T*>(p.regions) + int64_t{blockIdx.x} * pool.channels * pool.bins * pool.bins);
}

}  // namespace

void run(const RoiWindows& p, Queue queue) {
  const int64_t count = p.batch * p.joints.count;
  launch<roi_windows>({.grid = blocks(count, kWindowThreads), .block = kWindowThreads, .stream = queue.stream}, p,
                      count);
}

void run(const PoseRoiPool& p, Queue queue) {
  const RegionPool& pool = p.pool;
  const Launch at{.grid = grid_of(pool.batch * pool.joints.count), .block = kThreads, .stream = queue.stream};
  visit_pool(pool, [&]<class T, class Position>(Type<T>, Type<Position>) {
    pool.align ? launch<pose_roi_pool<T, Position, true>>(at, p) : launch<pose_roi_pool<T, Position, false>>(at, p);
  });
}

}  // namespace poseren::cuda
