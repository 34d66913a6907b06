// SPDX-License-Identifier: MIT
#include "cuda/pose_roi_pool.h"

#include "cuda/pool_region.h"

namespace poseren::cuda {
namespace {

constexpr int kThreads = 256;

// A block a region.
template <class T, class Position, bool kAlign>
__global__ void __launch_bounds__(kThreads, 1) pose_roi_pool(const PoseRoiPool op) {
  const RegionPool& p = op.pool;
  const int64_t sample = blockIdx.x / p.joints.count, m = blockIdx.x % p.joints.count;
  pool_region<kAlign>(p, op.strides, static_cast<const T*>(op.features) + sample * op.strides.sample,
                      static_cast<const Position*>(op.pose) + joint_offset(p, sample, m),
                      static_cast<T*>(op.regions) + int64_t{blockIdx.x} * p.channels * p.bins * p.bins);
}

}  // namespace

void run(const PoseRoiPool& op, Queue queue) {
  const RegionPool& p = op.pool;
  const Launch at{.grid = grid_of(p.batch * p.joints.count), .block = kThreads, .stream = queue.stream};
  visit_features(p.dtype, [&]<class T>(Type<T>) {
    const auto launch_for = [&]<class Position>(Type<Position>) {
      p.align ? launch<pose_roi_pool<T, Position, true>>(at, op) : launch<pose_roi_pool<T, Position, false>>(at, op);
    };
    p.pose_dtype == DType::f64 ? launch_for(Type<double>{}) : launch_for(Type<float>{});
  });
}

}  // namespace poseren::cuda
