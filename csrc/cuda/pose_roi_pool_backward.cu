// SPDX-License-Identifier: MIT
// Gradients of pose_roi_pool as gathers: one thread sums each value in a fixed order, without atomics.
#include "core/kernels.h"
#include "cuda/warp.h"

namespace poseren::cuda {
namespace {

constexpr int kThreads = 256;

// ---- gradient of the features: one thread per cell of a sample
template <class T, class Position>
struct CellGradient {
  using Sum = Accumulator<T>;

  const PoseRoiPoolFeatureGrad& p;
  const T* plane;  // of the features [H, W], with p.strides
  int64_t row, column;

  // Adds the gradient of a region to the cell; grad: [P, P].
  __device__ void add_max(const Window& w, const T* grad, Sum& sum) const {
    const RegionPool& pool = p.pool;
    if (row < w.y0 || row > w.y1 || column < w.x0 || column > w.x1) return;
    if (is_crop(w, pool.bins)) {
      sum += load(grad + (row - w.y0) * pool.bins + column - w.x0);
      return;
    }
    for (int64_t by = 0; by < pool.bins; by++) {
      const Range rows = bin_range(w.y0, w.y1, by, pool.bins, pool.height);
      if (row < rows.first || row >= rows.last) continue;
      for (int64_t bx = 0; bx < pool.bins; bx++) {
        const Range columns = bin_range(w.x0, w.x1, bx, pool.bins, pool.width);
        if (column < columns.first || column >= columns.last) continue;
        const MapCell best = max_cell(plane, p.strides, rows, columns);
        if (best.row == row && best.column == column) sum += load(grad + by * pool.bins + bx);
      }
    }
  }

  __device__ void add_align(const Position* joint, const T* grad, Sum& sum) const {
    const RegionPool& pool = p.pool;
    const SampleGrid<Position> x = sample_grid(pool, joint[0]), y = sample_grid(pool, joint[1]);
    if (!reaches(y, row, pool.height) || !reaches(x, column, pool.width)) return;
    for (int64_t by = 0; by < pool.bins; by++) {
      Sum line = 0;
      bool summed = false;  // the line is only needed if a row of sampling points touches the cell's row
      for (int64_t i = by * pool.samples; i < (by + 1) * pool.samples; i++) {
        const Tap<Sum> tap = sample_tap<Sum>(y, i, pool.height);
        if (!tap.inside || (tap.low != row && tap.high != row)) continue;
        if (!summed) line = line_gradient(x, grad + by * pool.bins);
        summed = true;
        if (tap.low == row) sum += (1 - tap.weight) * line;
        if (tap.high == row) sum += tap.weight * line;
      }
    }
  }

  // The gradient of one row of bins at the cell's column; grad: [P].
  __device__ Sum line_gradient(const SampleGrid<Position>& x, const T* grad) const {
    const RegionPool& pool = p.pool;
    const Sum share = Sum(1) / static_cast<Sum>(pool.samples * pool.samples);
    Sum line = 0;
    for (int64_t i = 0; i < pool.bins * pool.samples; i++) {
      const Tap<Sum> tap = sample_tap<Sum>(x, i, pool.width);
      if (!tap.inside || (tap.low != column && tap.high != column)) continue;
      const Sum value = load(grad + i / pool.samples) * share;
      if (tap.low == column) line += (1 - tap.weight) * value;
      if (tap.high == column) line += tap.weight * value;
    }
    return line;
  }

  // Whether a sampling point may touch the cell: points lie between the first and the last, clamped to the map.
  __device__ bool reaches(const SampleGrid<Position>& grid, int64_t cell, int64_t size) const {
    const Position last = grid.start + static_cast<Position>(p.pool.bins * p.pool.samples) * grid.step;
    return (grid.start <= static_cast<Position>(cell + 1) || cell + 1 >= size) &&
           (last >= static_cast<Position>(cell - 1) || cell == 0);
  }
};

template <class T, class Position>
__global__ void __launch_bounds__(kThreads, 1) pose_roi_pool_feature_grad(const PoseRoiPoolFeatureGrad p) {
  const RegionPool& pool = p.pool;
  SHARED(windows, Window[JointList::kCapacity]);
  const int64_t cells = pool.channels * pool.height * pool.width, blocks_per_sample = (cells + kThreads - 1) / kThreads;
  const int64_t sample = blockIdx.x / blocks_per_sample, cell = blockIdx.x % blocks_per_sample * kThreads + threadIdx.x;
  const Position* pose = static_cast<const Position*>(p.pose);
  for (int64_t m = threadIdx.x; m < pool.joints.count; m += kThreads) windows[m] = region_window(pool, pose, sample, m);
  __syncthreads();
  if (cell >= cells) return;

  const int64_t c = cell / (pool.height * pool.width), row = cell / pool.width % pool.height,
                column = cell % pool.width;
  const T* plane = static_cast<const T*>(p.features) + sample * p.strides.sample + c * p.strides.channel;
  const CellGradient<T, Position> gradient{p, plane, row, column};
  const int64_t region = pool.channels * pool.bins * pool.bins;
  const T* grad = static_cast<const T*>(p.grad) + sample * pool.joints.count * region + c * pool.bins * pool.bins;
  Accumulator<T> sum = 0;
  for (int64_t m = 0; m < pool.joints.count; m++, grad += region) {
    if (is_invalid(windows[m])) continue;
    if (pool.align)
      gradient.add_align(pose + joint_offset(pool, sample, m), grad, sum);
    else
      gradient.add_max(windows[m], grad, sum);
  }
  const MapStrides& s = p.grad_strides;
  store(static_cast<T*>(p.feature_grad) + sample * s.sample + c * s.channel + row * s.row + column * s.column, sum);
}

// ---- gradient of the pose: one block per joint of a sample
// Adds the derivative at one sampling point, weighted by the gradient of its bin.
template <class T>
__device__ void add_slope(const MapStrides& s, const T* plane, const Tap<Accumulator<T>>& tx,
                          const Tap<Accumulator<T>>& ty, double grad, Slope& slope) {
  const auto at = [&](int64_t row, int64_t column) {
    return static_cast<double>(load(plane + row * s.row + column * s.column));
  };
  const double low_low = at(ty.low, tx.low), low_high = at(ty.low, tx.high);
  const double high_low = at(ty.high, tx.low), high_high = at(ty.high, tx.high);
  if (tx.moves) slope.x += grad * ((1 - ty.weight) * (low_high - low_low) + ty.weight * (high_high - high_low));
  if (ty.moves) slope.y += grad * ((1 - tx.weight) * (high_low - low_low) + tx.weight * (high_high - low_high));
}

// The thread's share of region m: every kThreads-th sampling point of its channels.
template <class T, class Position>
__device__ void add_region_slope(const PoseRoiPoolPoseGrad& p, int64_t sample, int64_t m, Slope& slope) {
  const RegionPool& pool = p.pool;
  const Position* joint = static_cast<const Position*>(p.pose) + joint_offset(pool, sample, m);
  const SampleGrid<Position> x = sample_grid(pool, joint[0]), y = sample_grid(pool, joint[1]);
  const T* map = static_cast<const T*>(p.features) + sample * p.strides.sample;
  const T* grad =
      static_cast<const T*>(p.grad) + (sample * pool.joints.count + m) * pool.channels * pool.bins * pool.bins;
  const int64_t side = pool.bins * pool.samples;
  for (int64_t i = threadIdx.x; i < pool.channels * side * side; i += kThreads) {
    const int64_t c = i / (side * side), iy = i / side % side, ix = i % side;
    const auto tx = sample_tap<Accumulator<T>>(x, ix, pool.width), ty = sample_tap<Accumulator<T>>(y, iy, pool.height);
    if (!tx.inside || !ty.inside) continue;
    const double g = load(grad + (c * pool.bins + iy / pool.samples) * pool.bins + ix / pool.samples);
    add_slope(p.strides, map + c * p.strides.channel, tx, ty, g, slope);
  }
}

// Thread 0 gets the sum over the block.
__device__ inline Slope fold_block(Slope slope) {
  constexpr int kWarps = kThreads / kWarp;
  SHARED(partial, Slope[kWarps]);
  slope = {fold_warp(slope.x), fold_warp(slope.y)};
  if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = slope;
  __syncthreads();
  if (threadIdx.x == 0)
    for (int warp = 1; warp < kWarps; warp++) {
      slope.x += partial[warp].x;
      slope.y += partial[warp].y;
    }
  return slope;
}

template <class T, class Position>
__global__ void __launch_bounds__(kThreads, 1) pose_roi_pool_pose_grad(const PoseRoiPoolPoseGrad p) {
  const RegionPool& pool = p.pool;
  const int64_t sample = blockIdx.x / pool.num_joints, joint = blockIdx.x % pool.num_joints;
  Slope slope{0, 0};
  for (int64_t m = 0; m < pool.joints.count; m++)
    if (pool.joints.joint[m] == joint &&
        !is_invalid(region_window(pool, static_cast<const Position*>(p.pose), sample, m)))
      add_region_slope<T, Position>(p, sample, m, slope);
  slope = fold_block(slope);
  if (threadIdx.x > 0) return;
  const double unit =
      static_cast<double>(cells_per_unit(pool.geometry)) / static_cast<double>(pool.samples * pool.samples);
  Position* out = static_cast<Position*>(p.pose_grad) + int64_t{blockIdx.x} * pool.num_axes;
  for (int64_t axis = 2; axis < pool.num_axes; axis++) out[axis] = 0;
  out[0] = static_cast<Position>(slope.x * unit);
  out[1] = static_cast<Position>(slope.y * unit);
}

}  // namespace

void run(const PoseRoiPoolFeatureGrad& p, Queue queue) {
  const RegionPool& pool = p.pool;
  const int64_t blocks_per_sample = (pool.channels * pool.height * pool.width + kThreads - 1) / kThreads;
  const Launch at{.grid = grid_of(pool.batch * blocks_per_sample), .block = kThreads, .stream = queue.stream};
  visit_pool(pool, [&]<class T, class Position>(Type<T>, Type<Position>) {
    launch<pose_roi_pool_feature_grad<T, Position>>(at, p);
  });
}

void run(const PoseRoiPoolPoseGrad& p, Queue queue) {
  const RegionPool& pool = p.pool;
  const Launch at{.grid = grid_of(pool.batch * pool.num_joints), .block = kThreads, .stream = queue.stream};
  visit_pool(pool, [&]<class T, class Position>(Type<T>, Type<Position>) {
    launch<pose_roi_pool_pose_grad<T, Position>>(at, p);
  });
}

}  // namespace poseren::cuda
