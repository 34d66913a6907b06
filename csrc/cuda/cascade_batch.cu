// SPDX-License-Identifier: MIT
// The cascade for a large batch. It never synchronises with the host, so that a CUDA graph can capture it: all kernels
// are launched, and those without work return at once.
#include "cuda/cascade.h"

#include "cuda/cascade_batch_state.h"
#include "cuda/grouped_gemm.h"
#include "cuda/pool_region.h"

namespace poseren::cuda {
namespace {

constexpr int kThreads = 256;

// One block per sample.
__global__ void __launch_bounds__(kThreads) start_cascade(const BatchCascade c) {
  const int sample = static_cast<int>(blockIdx.x), pose_size = static_cast<int>(c.op.pool.num_joints) * 3;
  const float* pose = c.op.pose + (c.first + sample) * pose_size;
  for (int i = static_cast<int>(threadIdx.x); i < pose_size; i += kThreads) c.pose(0, sample)[i] = pose[i];
  if (threadIdx.x == 0) c.op.stages_run[c.first + sample] = 0;
}

// ---- the work lists of a stage: one block per sample, one thread per region
constexpr int kPlanThreads = JointList::kCapacity;

__device__ inline bool feeds_a_finger(const FingerTree& tree, int m) {
  for (int slot = 0; slot < tree.slots(); slot++)
    if (tree.region[slot] == m) return true;
  return false;
}

__global__ void __launch_bounds__(kPlanThreads) plan_cascade_stage(const BatchCascade c, int64_t stage) {
  SHARED(needs_region, bool[JointList::kCapacity]);  // regions that must be computed
  const RegionPool& p = c.op.pool;
  const int sample = static_cast<int>(blockIdx.x), m = static_cast<int>(threadIdx.x);
  const int pose_size = static_cast<int>(p.num_joints) * 3;
  const float* before = c.pose(stage - 1, sample);

  const bool is_region = m < c.num_regions(), used = is_region && feeds_a_finger(c.op.tree, m);
  Window window{-1, -1, -1, -1};
  bool moved = false;
  if (is_region) {
    Window& known = c.known[int64_t{sample} * c.num_regions() + m];
    window = window_at(before + joint_offset(p, 0, m), p.geometry);
    moved = stage == 1 || p.align || !(window == known);
    known = window;
  }
  const bool any_moved = __syncthreads_or(moved), any_used_moved = __syncthreads_or(used && moved);
  const bool invalid = __syncthreads_or(used && is_invalid(window)), needed = any_used_moved && !invalid;

  needs_region[m] = needed && used && moved;
  if (is_region) c.needs[int64_t{m} * c.capacity + sample] = needs_region[m];
  __syncthreads();
  for (int f = m; f < c.num_fingers(); f += kPlanThreads) {
    bool any = false;
    for (int k = 0; k < c.op.tree.members; k++) any |= needs_region[c.op.tree.region[f * c.op.tree.members + k]];
    c.needs[int64_t{c.finger_list(f)} * c.capacity + sample] = any;
  }
  if (m == 0) {
    c.needs[int64_t{c.pose_list()} * c.capacity + sample] = needed;
    c.op.stages_run[c.first + sample] += any_moved;
  }
  if (needed) return;
  for (int i = m; i < pose_size; i += kPlanThreads) c.pose(stage, sample)[i] = invalid ? kNaN<float> : before[i];
}

// ---- compacts each work list, keeping the order of the samples: one block per list
__global__ void __launch_bounds__(kThreads) compact_lists(const BatchCascade c) {
  constexpr int kWarps = kThreads / kWarp;
  SHARED(warp_counts, int[kWarps]);
  const int64_t list = int64_t{blockIdx.x} * c.capacity;
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  int found = 0;
  for (int start = 0; start < c.count; start += kThreads) {
    const int sample = start + static_cast<int>(threadIdx.x);
    const bool mine = sample < c.count && c.needs[list + sample];
    const unsigned votes = __ballot_sync(kAllLanes, mine);
    if (lane == 0) warp_counts[warp] = __popc(votes);
    __syncthreads();
    int place = found + __popc(votes & ((1u << lane) - 1));
    for (int w = 0; w < kWarps; w++) {
      if (w < warp) place += warp_counts[w];
      found += warp_counts[w];
    }
    if (mine) c.samples[list + place] = sample;
    __syncthreads();
  }
  if (threadIdx.x == 0) c.sizes[blockIdx.x] = found;
}

// ---- pools the regions that moved: one block per region of a sample
template <class Reader>
__device__ void pool_split(const Reader& reader, const BatchCascade& c, int64_t row) {
  constexpr int kPack = Pack<BFloat16>::kSize;
  const int bins = static_cast<int>(c.op.pool.bins), depth = static_cast<int>(c.op.region.depth);
  for (int first = static_cast<int>(threadIdx.x) * kPack; first < depth; first += kThreads * kPack) {
    Pack<BFloat16> packs[kParts];
#pragma unroll
    for (int i = 0; i < kPack; i++) {
      const int k = first + i;
      BFloat16 parts[kParts];
      split(k < depth ? reader(k / (bins * bins), k / bins % bins, k % bins) : 0.0f, parts);
      for (int part = 0; part < kParts; part++) packs[part].value[i] = parts[part];
    }
    for (int part = 0; part < kParts; part++) store_pack(c.pooled.row(row, part) + first, packs[part]);
  }
}

template <bool kAlign>
__global__ void __launch_bounds__(kThreads, 1) pool_moved_regions(const BatchCascade c, int64_t stage) {
  const RegionPool& p = c.op.pool;
  const int i = static_cast<int>(blockIdx.x), m = static_cast<int>(blockIdx.y);
  if (i >= c.sizes[m]) return;
  const int64_t sample = c.sample(m, i), row = int64_t{m} * c.capacity + i;
  const float* map = c.op.features + (c.first + sample) * c.op.strides.sample;
  if constexpr (kAlign) {
    const float* joint = c.pose(stage - 1, sample) + joint_offset(p, 0, m);
    pool_split(AlignReader<float, float>{p, c.op.strides, map, sample_grid(p, joint[0]), sample_grid(p, joint[1])}, c,
               row);
  } else {
    pool_split(MaxReader<float>{p, c.op.strides, map, c.known[sample * p.joints.count + m]}, c, row);
  }
}

// ---- the layers, as problems of grouped_gemm
template <class W>
struct LayerProblem {
  BatchCascade c;
  HeadLayer layer;
  bool packed;

  __device__ const W* weight(int group) const {
    return static_cast<const W*>(layer.weight) + group * layer.rows * layer.depth;
  }
  __device__ int64_t rows() const { return layer.rows; }
  __device__ int64_t depth() const { return layer.depth; }
  __device__ bool is_packed() const { return packed; }
  __device__ int64_t begin(int) const { return 0; }
  __device__ int64_t end(int) const { return layer.depth; }

  __device__ float activation(int group, int64_t row, float sum) const {
    const int64_t i = group * layer.rows + row;
    const float value = (layer.scale ? sum * layer.scale[i] : sum) + layer.bias[i];
    return value < 0 ? 0.0f : value;  // keeps NaN
  }
};

template <class W>
struct RegionProblem : LayerProblem<W> {
  __device__ int count(int m) const { return this->c.sizes[m]; }
  __device__ const BFloat16* input(int m, int i, int part) const {
    return this->c.pooled.row(int64_t{m} * this->c.capacity + i, part);
  }
  __device__ void store(int m, int i, int64_t row, float sum) const {
    const BatchCascade& c = this->c;
    const FingerTree& tree = c.op.tree;
    const float value = this->activation(m, row, sum);
    const int64_t fingers = int64_t{c.sample(m, i)} * tree.fingers;
    for (int f = 0, slot = 0; f < tree.fingers; f++)
      for (int k = 0; k < tree.members; k++, slot++)
        if (tree.region[slot] == m) c.region_hidden.store(fingers + f, k * this->layer.rows + row, value);
  }
};

template <class W>
struct FingerProblem : LayerProblem<W> {
  __device__ int count(int f) const { return this->c.sizes[this->c.finger_list(f)]; }
  __device__ int64_t sample(int f, int i) const { return this->c.sample(this->c.finger_list(f), i); }
  __device__ const BFloat16* input(int f, int i, int part) const {
    return this->c.region_hidden.row(sample(f, i) * this->c.num_fingers() + f, part);
  }
  __device__ void store(int f, int i, int64_t row, float sum) const {
    this->c.finger_hidden.store(sample(f, i), f * this->layer.rows + row, this->activation(f, row, sum));
  }
};

// Split-K: a group is a slice of the depth.
template <class W>
struct PoseProblem : LayerProblem<W> {
  __device__ const W* weight(int) const { return static_cast<const W*>(this->layer.weight); }
  __device__ int64_t begin(int slice) const { return slice * kPoseSlice; }
  __device__ int64_t end(int slice) const {
    const int64_t end = (slice + 1) * kPoseSlice;
    return end < this->layer.depth ? end : this->layer.depth;
  }
  __device__ int count(int) const { return this->c.sizes[this->c.pose_list()]; }
  __device__ const BFloat16* input(int, int i, int part) const {
    return this->c.finger_hidden.row(this->c.sample(this->c.pose_list(), i), part);
  }
  __device__ void store(int slice, int i, int64_t row, float sum) const {
    this->c.partial[(int64_t{slice} * this->c.capacity + i) * this->layer.rows + row] = sum;
  }
};

// Adds the sums of the slices to the new poses.
__global__ void __launch_bounds__(kThreads) write_cascade_poses(const BatchCascade c, int64_t stage) {
  const HeadLayer& layer = c.op.joint;
  const int64_t at = int64_t{blockIdx.x} * kThreads + threadIdx.x, i = at / layer.rows, row = at % layer.rows;
  if (i >= c.sizes[c.pose_list()]) return;
  float sum = 0;
  for (int64_t slice = 0; slice < pose_slices(c.op); slice++)
    sum += c.partial[(slice * c.capacity + i) * layer.rows + row];
  c.pose(stage, c.sample(c.pose_list(), static_cast<int>(i)))[row] =
      (layer.scale ? sum * layer.scale[row] : sum) + layer.bias[row];
}

// ---- host code
template <class W>
bool is_packed(const HeadLayer& layer) {
  constexpr int64_t kUnitBytes = GemmTile::kUnit * sizeof(W) < 16 ? GemmTile::kUnit * sizeof(W) : 16;
  return layer.depth * static_cast<int64_t>(sizeof(W)) % kUnitBytes == 0 &&
         reinterpret_cast<uintptr_t>(layer.weight) % kUnitBytes == 0;
}

unsigned tiles(int64_t count, int tile) {
  return grid_of((count + tile - 1) / tile);
}

template <class W, template <class> class Problem>
void run_layer(const BatchCascade& c, const HeadLayer& layer, int64_t groups, void* stream) {
  const dim3 grid(tiles(c.count, GemmTile::kSamples), tiles(layer.rows, GemmTile::kRows), grid_of(groups));
  launch<grouped_gemm<W, Problem<W>>>(
      {.grid = grid, .block = GemmTile::kThreads, .shared = GemmTile::shared_bytes<W>(), .stream = stream},
      Problem<W>{{c, layer, is_packed<W>(layer)}});
}

void find_work(const BatchCascade& c, int64_t stage, void* stream) {
  const unsigned samples = grid_of(c.count);
  launch<plan_cascade_stage>({.grid = samples, .block = kPlanThreads, .stream = stream}, c, stage);
  launch<compact_lists>({.grid = grid_of(c.num_lists()), .block = kThreads, .stream = stream}, c);
  const Launch pool{.grid = dim3(samples, grid_of(c.num_regions())), .block = kThreads, .stream = stream};
  c.op.pool.align ? launch<pool_moved_regions<true>>(pool, c, stage)
                  : launch<pool_moved_regions<false>>(pool, c, stage);
}

template <class W>
void run_stage(const BatchCascade& c, int64_t stage, void* stream) {
  const CascadeRefine& op = c.op;
  find_work(c, stage, stream);
  run_layer<W, RegionProblem>(c, op.region, op.region.groups, stream);
  run_layer<W, FingerProblem>(c, op.finger, op.finger.groups, stream);
  run_layer<W, PoseProblem>(c, op.joint, pose_slices(op), stream);
  launch<write_cascade_poses>({.grid = blocks(c.count * op.joint.rows, kThreads), .block = kThreads, .stream = stream},
                              c, stage);
}

}  // namespace

int64_t batch_scratch_bytes(const CascadeRefine& op) {
  ScratchLayout layout(nullptr);
  batch_cascade(op, 0, layout);
  return layout.bytes();
}

void refine_batch(const CascadeRefine& op, Queue queue) {
  for (int64_t first = 0; first < op.pool.batch; first += kSamplesAtOnce) {
    ScratchLayout layout(op.scratch);
    const BatchCascade c = batch_cascade(op, first, layout);
    launch<start_cascade>({.grid = grid_of(c.count), .block = kThreads, .stream = queue.stream}, c);
    visit_weights(op.weight_dtype, [&]<class W>(Type<W>) {
      for (int64_t stage = 1; stage <= op.stages; stage++) run_stage<W>(c, stage, queue.stream);
    });
  }
}

}  // namespace poseren::cuda
