// SPDX-License-Identifier: MIT
// The cascade for a small batch: one cooperative kernel computes all stages and layers, and reads each weight that it
// needs once per stage.
//
// One block per SM. The rows of a layer are split evenly among the blocks. Between layers the blocks wait at a grid
// barrier, and before it they prefetch their next weights. Each block finds out by itself when no window has moved.
#include "cuda/cascade.h"

#include "cuda/cascade_small_plan.h"
#include "cuda/dot_rows.h"
#include "cuda/pool_region.h"

namespace poseren::cuda {
namespace {

constexpr int kThreads = 384;
constexpr int kWarps = kThreads / kWarp;
constexpr int kLineBytes = 128;

struct SmallCascade {
  CascadeRefine op;
  float* region_hidden;  // [B, M, W1]: first-layer outputs, kept from stage to stage
  float* finger_hidden;  // [B, F, W2]
};

// Member i of a set of samples.
__device__ inline int member(unsigned set, int i) {
  for (; i > 0; i--) set &= set - 1;
  return __ffs(static_cast<int>(set)) - 1;
}

// A range of rows of one group.
struct Rows {
  int64_t group, first, last;
};

// This block's part of the rows of `groups` groups, one group at a time.
class Share {
 public:
  __device__ Share(int64_t groups, int64_t rows) : rows_(rows), at_(bound(groups * rows, blockIdx.x)) {
    end_ = bound(groups * rows, blockIdx.x + 1);
  }
  __device__ bool next(Rows& stretch) {
    if (at_ >= end_) return false;
    const int64_t group = at_ / rows_, first = at_ % rows_;
    const int64_t last = first + (end_ - at_) < rows_ ? first + (end_ - at_) : rows_;
    stretch = {group, first, last};
    at_ += last - first;
    return true;
  }

 private:
  __device__ static int64_t bound(int64_t total, int64_t block) { return total * block / gridDim.x; }

  int64_t rows_, at_, end_;
};

template <class W, int kPack>
class SmallKernel {
 public:
  __device__ SmallKernel(const SmallCascade& c, CascadePlan& plan, float* inputs)
      : c_(c), op_(c.op), plan_(plan), planner_(c.op, plan), inputs_(inputs) {}

  __device__ void run() {
    start();
    for (int64_t stage = 1; stage <= op_.stages; stage++) {
      planner_.plan_stage(stage);
      if (blockIdx.x == 0) report(stage);
      if (!plan_.needed) continue;
      compute_regions(stage);
      prefetch_next(op_.finger, plan_.fingers, plan_.num_fingers);
      grid_barrier();
      compute_fingers();
      prefetch_pose();
      grid_barrier();
      write_pose(stage);
      if (stage < op_.stages) grid_barrier();
    }
  }

 private:
  __device__ int64_t pose_size() const { return op_.pool.num_joints * op_.pool.num_axes; }
  __device__ float* pose(int64_t stage, int sample) const {
    return op_.poses + (stage * op_.pool.batch + sample) * pose_size();
  }

  // Block 0 writes poses that need no computation. Each value is always written by the same thread, which therefore
  // sees its earlier writes.
  __device__ void start() {
    if (blockIdx.x > 0) return;
    for (int64_t i = threadIdx.x; i < op_.pool.batch * pose_size(); i += kThreads) op_.poses[i] = op_.pose[i];
    if (threadIdx.x < op_.pool.batch) op_.stages_run[threadIdx.x] = 0;
  }
  __device__ void report(int64_t stage) {
    for (int64_t i = threadIdx.x; i < op_.pool.batch * pose_size(); i += kThreads) {
      const int sample = static_cast<int>(i / pose_size());
      if (plan_.needed >> sample & 1) continue;
      const bool invalid = plan_.invalid >> sample & 1;
      pose(stage, 0)[i] = invalid ? kNaN<float> : planner_.pose_before(stage, 0)[i];
    }
    if (threadIdx.x < op_.pool.batch) op_.stages_run[threadIdx.x] += plan_.moved >> threadIdx.x & 1;
  }

  // Computes the layers of the regions that moved.
  __device__ void compute_regions(int64_t stage) {
    const int64_t rows = op_.region.rows;
    Share share(plan_.num_regions, rows);
    for (Rows stretch; share.next(stretch);) {
      const int m = plan_.regions[stretch.group];
      const unsigned members = plan_.region_samples[m];
      stage_inputs(static_cast<int>(op_.region.depth), members,
                   [&](int sample, float* input) { stage_region(stage, sample, m, input); });
      multiply(op_.region, m, stretch, members, [&](int64_t row, int sample, float value) {
        c_.region_hidden[(sample * op_.pool.joints.count + m) * rows + row] = value;
      });
    }
  }

  // Computes the layers of the fingers with such regions.
  __device__ void compute_fingers() {
    const HeadLayer& layer = op_.finger;
    Share share(plan_.num_fingers, layer.rows);
    for (Rows stretch; share.next(stretch);) {
      const int f = plan_.fingers[stretch.group];
      const unsigned members = plan_.finger_samples[f];
      stage_inputs(static_cast<int>(layer.depth), members,
                   [&](int sample, float* input) { stage_finger(sample, f, input); });
      multiply(layer, f, stretch, members, [&](int64_t row, int sample, float value) {
        c_.finger_hidden[(sample * op_.tree.fingers + f) * layer.rows + row] = value;
      });
    }
  }

  // Copies the inputs of the members to shared memory for multiply().
  template <class StageOne>
  __device__ void stage_inputs(int depth, unsigned members, const StageOne& stage_one) {
    __syncthreads();  // all warps have read the previous inputs
    for (int i = 0; i < __popc(members); i++) stage_one(member(members, i), inputs_ + i * staged_size<kPack>(depth));
    __syncthreads();
  }

  __device__ void stage_region(int64_t stage, int sample, int m, float* input) const {
    const RegionPool& p = op_.pool;
    const float* map = op_.features + sample * op_.strides.sample;
    if (p.align) {
      const float* joint = planner_.pose_before(stage, sample) + joint_offset(p, 0, m);
      stage_bins(AlignReader<float, float>{p, op_.strides, map, sample_grid(p, joint[0]), sample_grid(p, joint[1])},
                 input);
    } else {
      stage_bins(MaxReader<float>{p, op_.strides, map, plan_.known[sample * p.joints.count + m]}, input);
    }
  }
  template <class Reader>
  __device__ void stage_bins(const Reader& reader, float* input) const {
    const int bins = static_cast<int>(op_.pool.bins), depth = static_cast<int>(op_.region.depth);
    for (int k = static_cast<int>(threadIdx.x); k < depth; k += kThreads)
      input[staged_index<kPack>(k)] = reader(k / (bins * bins), k / bins % bins, k % bins);
  }
  __device__ void stage_finger(int sample, int f, float* input) const {
    const int rows = static_cast<int>(op_.region.rows), depth = static_cast<int>(op_.finger.depth);
    const float* region_hidden = c_.region_hidden + sample * op_.pool.joints.count * rows;
    const int16_t* members = op_.tree.region + f * op_.tree.members;
    for (int k = static_cast<int>(threadIdx.x); k < depth; k += kThreads)
      input[staged_index<kPack>(k)] = region_hidden[int64_t{members[k / rows]} * rows + k % rows];
  }

  // Calls store(row, sample, value) for a range of rows of a group and the members whose inputs are in shared memory.
  template <class Store>
  __device__ void multiply(const HeadLayer& layer, int64_t group, const Rows& stretch, unsigned members,
                           const Store& store) const {
    const W* weights = static_cast<const W*>(layer.weight) + group * layer.rows * layer.depth;
    const auto write = [&](int64_t row, int i, float sum) {
      const float value = finish(layer, group * layer.rows + row, sum);
      store(row, member(members, i), value < 0 ? 0.0f : value);  // keeps NaN
    };
    const int count = __popc(members);
    const auto dot = [&]<int kSamples>(std::integral_constant<int, kSamples>) {
      dot_rows<kPack, kSamples>(weights, static_cast<int>(layer.depth), stretch.first, stretch.last, inputs_, count,
                                write);
    };
    if (count == 1)
      dot(std::integral_constant<int, 1>{});
    else if (count == 2)
      dot(std::integral_constant<int, 2>{});
    else if (count <= 4)
      dot(std::integral_constant<int, 4>{});
    else
      dot(std::integral_constant<int, 8>{});
  }

  __device__ static float finish(const HeadLayer& layer, int64_t row, float sum) {
    return (layer.scale ? sum * layer.scale[row] : sum) + layer.bias[row];
  }

  // The last layer has few, long rows: one block per row, inputs read from global memory.
  __device__ void write_pose(int64_t stage) {
    const unsigned members = plan_.needed;
    for (int64_t row = blockIdx.x; row < op_.joint.rows; row += gridDim.x)
      for (int i = 0; i < __popc(members); i++) {
        const float sum = sum_of_block(pose_products(row, member(members, i)));
        if (threadIdx.x == 0) pose(stage, member(members, i))[row] = finish(op_.joint, row, sum);
      }
  }

  // The thread's share of the dot product of a row and a sample's input.
  __device__ float pose_products(int64_t row, int sample) const {
    const int64_t depth = op_.joint.depth;
    const W* weights = static_cast<const W*>(op_.joint.weight) + row * depth;
    const float* input = c_.finger_hidden + sample * depth;
    float sum = 0;
#pragma unroll 2
    for (int64_t k = int64_t{threadIdx.x} * kPack; k < depth; k += kThreads * kPack) {
      const Pack<W> pack = read_weights<kPack>(weights + k);
#pragma unroll
      for (int i = 0; i < kPack; i++) sum = fmaf(to_float(pack.value[i]), input[k + i], sum);
    }
    return sum;
  }

  __device__ float sum_of_block(float value) const {  // valid in thread 0
    SHARED(partial, float[kWarps]);
    value = fold_warp(value);
    __syncthreads();  // the previous sum has been read
    if (threadIdx.x % kWarp == 0) partial[threadIdx.x / kWarp] = value;
    __syncthreads();
    if (threadIdx.x == 0)
      for (int warp = 1; warp < kWarps; warp++) value += partial[warp];
    return value;
  }

  // Prefetches the first weights that the block reads after the barrier, one cache line per thread.
  __device__ void prefetch_next(const HeadLayer& layer, const int16_t* groups, int count) const {
    Share share(count, layer.rows);
    Rows stretch;
    if (!share.next(stretch)) return;
    const int64_t first = (groups[stretch.group] * layer.rows + stretch.first) * layer.depth;
    prefetch_lines(layer, first, (stretch.last - stretch.first) * layer.depth);
  }
  __device__ void prefetch_pose() const {
    if (blockIdx.x < op_.joint.rows) prefetch_lines(op_.joint, blockIdx.x * op_.joint.depth, op_.joint.depth);
  }
  __device__ static void prefetch_lines(const HeadLayer& layer, int64_t first, int64_t count) {
    const int64_t weight = int64_t{threadIdx.x} * (kLineBytes / static_cast<int64_t>(sizeof(W)));
    if (weight < count) prefetch(static_cast<const W*>(layer.weight) + first + weight);
  }

  const SmallCascade& c_;
  const CascadeRefine& op_;
  CascadePlan& plan_;
  CascadePlanner planner_;
  float* inputs_;
};

template <class W, int kPack>
__global__ void __launch_bounds__(kThreads, 1) cascade_small(const SmallCascade c) {
  SHARED(plan, CascadePlan);
  DYNAMIC_SHARED(float, inputs);
  SmallKernel<W, kPack>(c, plan, inputs).run();
}

// Padding for any pack size, and for the unused samples of a product of 4 or 8 samples.
size_t shared_bytes(const CascadeRefine& op) {
  constexpr int kLargestPack = 16;
  const int64_t depth = op.region.depth > op.finger.depth ? op.region.depth : op.finger.depth;
  const int64_t samples = op.pool.batch <= 2 ? op.pool.batch : op.pool.batch <= 4 ? 4 : kSmallBatch;
  return static_cast<size_t>(samples * staged_size<kLargestPack>(static_cast<int>(depth))) * sizeof(float);
}

template <class W>
bool rows_are_aligned(const HeadLayer& layer) {
  return layer.depth % Pack<W>::kSize == 0 && is_aligned(static_cast<const W*>(layer.weight));
}

}  // namespace

bool is_small(const CascadeRefine& op) {
  return op.pool.batch <= kSmallBatch &&
         shared_bytes(op) + sizeof(CascadePlan) + kThreads * sizeof(float) <= device_limits().shared;
}

int64_t small_scratch_bytes(const CascadeRefine& op) {
  const int64_t region_hidden = op.pool.joints.count * op.region.rows, finger_hidden = op.tree.fingers * op.finger.rows;
  return op.pool.batch * (region_hidden + finger_hidden) * static_cast<int64_t>(sizeof(float));
}

void refine_small(const CascadeRefine& op, Queue queue) {
  float* const region_hidden = static_cast<float*>(op.scratch);
  const SmallCascade small{op, region_hidden, region_hidden + op.pool.batch * op.pool.joints.count * op.region.rows};
  const Launch at{.grid = static_cast<unsigned>(device_limits().multiprocessors),
                  .block = kThreads,
                  .shared = shared_bytes(op),
                  .stream = queue.stream,
                  .cooperative = true};
  visit_weights(op.weight_dtype, [&]<class W>(Type<W>) {
    const bool packed =
        rows_are_aligned<W>(op.region) && rows_are_aligned<W>(op.finger) && rows_are_aligned<W>(op.joint);
    packed ? launch<cascade_small<W, Pack<W>::kSize>>(at, small) : launch<cascade_small<W, 1>>(at, small);
  });
}

}  // namespace poseren::cuda
