// SPDX-License-Identifier: MIT
// Gradients of pose_roi_pool: gathers, one owner and one sum in one order for each value, no atomics.
#include "cuda/pose_roi_pool.h"
#include "cuda/warp.h"

namespace poseren::cuda {
namespace {

constexpr int kThreads = 256;

// ---- to the features: a thread a cell of one sample
template <class T, class Position>
struct CellGradient {
  using Sum = Accumulator<T>;

  const PoseRoiPoolFeatureGrad& op;
  const T* plane;  // of the features [H, W], with op.strides
  int64_t row, column;

  // Adds what region m hands to the cell; grad: [P, P].
  __device__ void add_max(const Window& w, const T* grad, Sum& sum) const {
    const RegionPool& p = op.pool;
    if (row < w.y0 || row > w.y1 || column < w.x0 || column > w.x1) return;
    if (is_crop(w, p.bins)) {
      sum += load(grad + (row - w.y0) * p.bins + column - w.x0);
      return;
    }
    for (int64_t by = 0; by < p.bins; by++) {
      const CellRange rows = bin_span(w.y0, w.y1, by, p.bins, p.height);
      if (row < rows.low || row >= rows.high) continue;
      for (int64_t bx = 0; bx < p.bins; bx++) {
        const CellRange columns = bin_span(w.x0, w.x1, bx, p.bins, p.width);
        if (column < columns.low || column >= columns.high) continue;
        const MapCell best = max_cell(plane, op.strides, rows, columns);
        if (best.row == row && best.column == column) sum += load(grad + by * p.bins + bx);
      }
    }
  }

  __device__ void add_align(const Position* joint, const T* grad, Sum& sum) const {
    const RegionPool& p = op.pool;
    const SampleGrid<Position> x = sample_grid(p, joint[0]), y = sample_grid(p, joint[1]);
    if (!reaches(y, row, p.height) || !reaches(x, column, p.width)) return;
    for (int64_t by = 0; by < p.bins; by++) {
      Sum line = 0;
      bool summed = false;  // the line is only needed where a row of samples touches the cell's row
      for (int64_t i = by * p.samples; i < (by + 1) * p.samples; i++) {
        const Tap<Sum> tap = sample_tap<Sum>(y, i, p.height);
        if (!tap.inside || (tap.low != row && tap.high != row)) continue;
        if (!summed) line = line_gradient(x, grad + by * p.bins);
        summed = true;
        if (tap.low == row) sum += (1 - tap.weight) * line;
        if (tap.high == row) sum += tap.weight * line;
      }
    }
  }

  // What one row of bins hands to the cell's column; grad: [P].
  __device__ Sum line_gradient(const SampleGrid<Position>& x, const T* grad) const {
    const RegionPool& p = op.pool;
    const Sum share = Sum(1) / static_cast<Sum>(p.samples * p.samples);
    Sum line = 0;
    for (int64_t i = 0; i < p.bins * p.samples; i++) {
      const Tap<Sum> tap = sample_tap<Sum>(x, i, p.width);
      if (!tap.inside || (tap.low != column && tap.high != column)) continue;
      const Sum value = load(grad + i / p.samples) * share;
      if (tap.low == column) line += (1 - tap.weight) * value;
      if (tap.high == column) line += tap.weight * value;
    }
    return line;
  }

  // Whether some sample may touch the cell: samples lie between the first and the last, and move onto the map.
  __device__ bool reaches(const SampleGrid<Position>& grid, int64_t cell, int64_t size) const {
    const Position last = grid.start + static_cast<Position>(op.pool.bins * op.pool.samples) * grid.step;
    return (grid.start <= static_cast<Position>(cell + 1) || cell + 1 >= size) &&
           (last >= static_cast<Position>(cell - 1) || cell == 0);
  }
};

template <class T, class Position>
__global__ void __launch_bounds__(kThreads, 1) pose_roi_pool_feature_grad(const PoseRoiPoolFeatureGrad op) {
  const RegionPool& p = op.pool;
  SHARED(windows, Window[JointList::kCapacity]);
  const int64_t cells = p.channels * p.height * p.width, blocks_a_sample = (cells + kThreads - 1) / kThreads;
  const int64_t sample = blockIdx.x / blocks_a_sample, cell = blockIdx.x % blocks_a_sample * kThreads + threadIdx.x;
  const Position* pose = static_cast<const Position*>(op.pose);
  for (int64_t m = threadIdx.x; m < p.joints.count; m += kThreads) windows[m] = region_window(p, pose, sample, m);
  __syncthreads();
  if (cell >= cells) return;

  const int64_t c = cell / (p.height * p.width), row = cell / p.width % p.height, column = cell % p.width;
  const T* plane = static_cast<const T*>(op.features) + sample * op.strides.sample + c * op.strides.channel;
  const CellGradient<T, Position> gradient{op, plane, row, column};
  const int64_t region = p.channels * p.bins * p.bins;
  const T* grad = static_cast<const T*>(op.grad) + sample * p.joints.count * region + c * p.bins * p.bins;
  Accumulator<T> sum = 0;
  for (int64_t m = 0; m < p.joints.count; m++, grad += region) {
    if (is_nowhere(windows[m])) continue;
    if (p.align)
      gradient.add_align(pose + joint_offset(p, sample, m), grad, sum);
    else
      gradient.add_max(windows[m], grad, sum);
  }
  const MapStrides& s = op.grad_strides;
  store(static_cast<T*>(op.feature_grad) + sample * s.sample + c * s.channel + row * s.row + column * s.column, sum);
}

// ---- to the pose: a block a joint of one sample
struct Slope {
  double x, y;  // per cell that the samples move
};

// Of one sample of a bin, weighted by the bin's gradient.
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

// The thread's share of region m: every kThreads-th sample of its channels.
template <class T, class Position>
__device__ void add_region_slope(const PoseRoiPoolPoseGrad& op, int64_t sample, int64_t m, Slope& slope) {
  const RegionPool& p = op.pool;
  const Position* joint = static_cast<const Position*>(op.pose) + joint_offset(p, sample, m);
  const SampleGrid<Position> x = sample_grid(p, joint[0]), y = sample_grid(p, joint[1]);
  const T* map = static_cast<const T*>(op.features) + sample * op.strides.sample;
  const T* grad = static_cast<const T*>(op.grad) + (sample * p.joints.count + m) * p.channels * p.bins * p.bins;
  const int64_t side = p.bins * p.samples;
  for (int64_t i = threadIdx.x; i < p.channels * side * side; i += kThreads) {
    const int64_t c = i / (side * side), iy = i / side % side, ix = i % side;
    const auto tx = sample_tap<Accumulator<T>>(x, ix, p.width), ty = sample_tap<Accumulator<T>>(y, iy, p.height);
    if (!tx.inside || !ty.inside) continue;
    const double g = load(grad + (c * p.bins + iy / p.samples) * p.bins + ix / p.samples);
    add_slope(op.strides, map + c * op.strides.channel, tx, ty, g, slope);
  }
}

// The sum over the block is thread 0's.
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
__global__ void __launch_bounds__(kThreads, 1) pose_roi_pool_pose_grad(const PoseRoiPoolPoseGrad op) {
  const RegionPool& p = op.pool;
  const int64_t sample = blockIdx.x / p.num_joints, joint = blockIdx.x % p.num_joints;
  Slope slope{0, 0};
  for (int64_t m = 0; m < p.joints.count; m++)
    if (p.joints.joint[m] == joint && !is_nowhere(region_window(p, static_cast<const Position*>(op.pose), sample, m)))
      add_region_slope<T, Position>(op, sample, m, slope);
  slope = fold_block(slope);
  if (threadIdx.x > 0) return;
  const double unit = static_cast<double>(cells_per_unit(p.geometry)) / static_cast<double>(p.samples * p.samples);
  Position* out = static_cast<Position*>(op.pose_grad) + int64_t{blockIdx.x} * p.num_axes;
  for (int64_t axis = 2; axis < p.num_axes; axis++) out[axis] = 0;
  out[0] = static_cast<Position>(slope.x * unit);
  out[1] = static_cast<Position>(slope.y * unit);
}

// call(Type<T>{}, Type<Position>{}) for the features' and the pose's types.
template <class Call>
void visit_types(const RegionPool& p, const Call& call) {
  visit_features(p.dtype, [&]<class T>(Type<T> type) {
    p.pose_dtype == DType::f64 ? call(type, Type<double>{}) : call(type, Type<float>{});
  });
}

}  // namespace

void run(const PoseRoiPoolFeatureGrad& op, Queue queue) {
  const RegionPool& p = op.pool;
  const int64_t blocks_a_sample = (p.channels * p.height * p.width + kThreads - 1) / kThreads;
  const Launch at{.grid = grid_of(p.batch * blocks_a_sample), .block = kThreads, .stream = queue.stream};
  visit_types(p, [&]<class T, class Position>(Type<T>, Type<Position>) {
    launch<pose_roi_pool_feature_grad<T, Position>>(at, op);
  });
}

void run(const PoseRoiPoolPoseGrad& op, Queue queue) {
  const RegionPool& p = op.pool;
  const Launch at{.grid = grid_of(p.batch * p.num_joints), .block = kThreads, .stream = queue.stream};
  visit_types(p, [&]<class T, class Position>(Type<T>, Type<Position>) {
    launch<pose_roi_pool_pose_grad<T, Position>>(at, op);
  });
}

}  // namespace poseren::cuda
