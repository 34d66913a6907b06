// SPDX-License-Identifier: MIT
// One block per frame. Warp w sums rows w, w + 32, ... of a region, in the order that core/hand_center.h defines.
// Integer sums are exact in any order: with few integer frames, several blocks share a frame.
#include "core/kernels.h"

#include "cuda/warp.h"

namespace poseren::cuda {
namespace {

constexpr int kWarps = kSumLanes;
static_assert(kSumLanes == kWarp);

// One lane's sums over the valid pixels of a row, with kLoads loads in flight.
template <class T, bool kMasked, int kLoads>
struct RowSummer {
  const HandCenter& p;
  int64_t sample;
  CenterRegion region;

  __device__ const T* stored(int64_t row) const {
    return p.depth.frame<T>(sample) + row * p.depth.row_stride + region.left;
  }
  __device__ const uint8_t* mask(int64_t row) const {
    return p.mask + sample * p.mask_frame_stride + row * p.mask_row_stride + region.left;
  }
  __device__ bool is_valid(T stored, int64_t row, int64_t x) const {
    const bool inside = is_inside(to_float(stored) * static_cast<float>(p.unit), region);
    return kMasked ? inside && mask(row)[x] != 0 : inside;
  }

  // Adds the pixels at x, x + 1, ... of a row; x counts from the left of the region.
  template <int kCount>
  __device__ void add(const T (&stored)[kCount], int64_t row, int64_t x, CenterSums<T>& sums) const {
    int32_t count = 0, offsets = 0;
#pragma unroll
    for (int i = 0; i < kCount; i++) {
      if (!is_valid(stored[i], row, x + i)) continue;
      count++;
      offsets += i;
      sums.depth += summand(stored[i]);
    }
    sums.count += count;
    sums.columns += (region.left + x) * count + offsets;
    sums.rows += row * count;
  }

  // Integers: 16-byte loads between the first and the last 16-byte boundary.
  __device__ void add_row(int64_t row, int lane, CenterSums<T>& sums) const
    requires std::is_integral_v<T>
  {
    constexpr int kPack = Pack<T>::kSize;
    const T* const data = stored(row);
    const int64_t width = region.right - region.left;
    const int64_t to_boundary = elements_to_boundary(data);
    const int64_t head = to_boundary < width ? to_boundary : width, packs = (width - head) / kPack;
    const int64_t tail = head + packs * kPack;
    if (lane < head) add({data[lane]}, row, lane, sums);
#pragma unroll(kLoads)
    for (int64_t k = lane; k < packs; k += kWarp)
      add(load_pack(data + head + k * kPack).value, row, head + k * kPack, sums);
    if (lane < width - tail) add({data[tail + lane]}, row, tail + lane, sums);
  }

  // Floating-point depths follow core's order: first the sum of the row.
  __device__ void add_row(int64_t row, int lane, CenterSums<T>& sums) const
    requires(!std::is_integral_v<T>)
  {
    const T* const data = stored(row);
    const int64_t width = region.right - region.left;
    const double rows_before = sums.depth;
    sums.depth = 0;
#pragma unroll(kLoads)
    for (int64_t x = lane; x < width; x += kWarp) add({data[x]}, row, x, sums);
    sums.depth = rows_before + fold_warp(sums.depth);
  }
};

// Lane 0 gets the sums of all lanes. Floating-point depths have been reduced row by row before.
template <class T>
__device__ CenterSums<T> fold_lanes_of_warp(CenterSums<T> sums) {
  sums.count = fold_warp(sums.count);
  sums.columns = fold_warp(sums.columns);
  sums.rows = fold_warp(sums.rows);
  if constexpr (std::is_integral_v<T>) sums.depth = fold_warp(sums.depth);
  return sums;
}

// Thread 0 gets the sums.
template <class T, int kBlockWarps>
__device__ CenterSums<T> fold_warps_of_block(const CenterSums<T>& of_warp) {
  SHARED(partial, CenterSums<T>[kBlockWarps]);
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  if (lane == 0) partial[warp] = of_warp;
  __syncthreads();
  CenterSums<T> sums = lane < kBlockWarps ? partial[lane] : CenterSums<T>{};
  if (warp == 0) {
    if constexpr (!std::is_integral_v<T>) sums.depth = fold_warp(sums.depth);
    sums = fold_lanes_of_warp(sums);
  }
  __syncthreads();
  return sums;
}

// Sums rows first, first + step, ... of a region, one row per warp. Thread 0 gets the sums.
template <class T, bool kMasked, int kLoads, int kBlockWarps>
__device__ CenterSums<T> sum_rows(const HandCenter& p, int64_t sample, const CenterRegion& region, int first,
                                  int step) {
  const RowSummer<T, kMasked, kLoads> summer{p, sample, region};
  CenterSums<T> sums{};
  if (region.left < region.right)
    for (int64_t row = region.top + first; row < region.bottom; row += step)
      summer.add_row(row, static_cast<int>(threadIdx.x) % kWarp, sums);
  return fold_warps_of_block<T, kBlockWarps>(fold_lanes_of_warp(sums));
}

template <class T, bool kMasked>
__global__ void __launch_bounds__(kWarps* kWarp) hand_center(const HandCenter p) {
  SHARED(found, bool);
  const int warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t sample = blockIdx.x;
  CenterRegion region = whole_frame(p);
  for (int64_t pass = 0; pass <= p.iterations; pass++) {
    if (pass > 0) region = inside_cube(p, sample, p.center + sample * 3);
    const CenterSums<T> sums = sum_rows<T, kMasked, 4, kWarps>(p, sample, region, warp, kWarps);
    if (threadIdx.x == 0) found = store_center(p, sample, sums, pass > 0);
    __syncthreads();
    if (!found) return;
  }
}

constexpr int kMaxShares = 32, kShareWarps = 8;

// Several blocks (grid y) share a frame. After each pass they wait at a grid barrier, and each adds up all sums.
template <class T, bool kMasked>
__global__ void __launch_bounds__(kShareWarps* kWarp) shared_hand_center(const HandCenter p) {
  SHARED(region, CenterRegion);
  SHARED(center, float[3]);
  const int64_t sample = blockIdx.x, share = blockIdx.y;
  const int shares = static_cast<int>(gridDim.y), warp = static_cast<int>(threadIdx.x) / kWarp;
  if (threadIdx.x == 0) region = whole_frame(p);
  __syncthreads();
  for (int64_t pass = 0; pass <= p.iterations; pass++) {
    // Double-buffered, because a block may be one pass ahead of blocks that still read.
    CenterSums<T>* const sums = static_cast<CenterSums<T>*>(p.scratch) + (pass % 2 * gridDim.x + sample) * shares;
    const CenterSums<T> own = sum_rows<T, kMasked, 2, kShareWarps>(
        p, sample, region, static_cast<int>(share) * kShareWarps + warp, shares * kShareWarps);
    if (threadIdx.x == 0) sums[share] = own;
    grid_barrier();
    if (threadIdx.x == 0) {
      CenterSums<T> all{};
      for (int i = 0; i < shares; i++) {
        all.count += sums[i].count;
        all.columns += sums[i].columns;
        all.rows += sums[i].rows;
        all.depth += sums[i].depth;
      }
      if (share == 0) store_center(p, sample, all, pass > 0);
      const bool found = mean_center(all, p.unit, pass > 0, center);
      if (found && pass < p.iterations)
        region = inside_cube(p, sample, center);
      else
        region.right = region.left;  // nothing to sum: later passes keep the centre
    }
    __syncthreads();
  }
}

// Blocks per frame: enough to keep the GPU busy.
int shares_of_frame(const HandCenter& p) {
  const bool exact = p.depth.dtype == DType::u16 || p.depth.dtype == DType::i32;
  if (!exact || p.depth.batch == 0) return 1;
  const int64_t shares = device_limits().multiprocessors / p.depth.batch;
  return shares > kMaxShares ? kMaxShares : static_cast<int>(shares);
}

template <class T, bool kMasked>
void launch_for(const HandCenter& p, int shares, Queue queue) {
  const unsigned frames = grid_of(p.depth.batch);
  if constexpr (std::is_integral_v<T>) {
    const Launch shared{.grid = dim3(frames, static_cast<unsigned>(shares)),
                        .block = kShareWarps * kWarp,
                        .stream = queue.stream,
                        .cooperative = true};
    if (shares > 1) return launch<shared_hand_center<T, kMasked>>(shared, p);
  }
  launch<hand_center<T, kMasked>>({.grid = frames, .block = kWarps * kWarp, .stream = queue.stream}, p);
}

}  // namespace

int64_t scratch_bytes(const HandCenter& p, Queue) {
  const int shares = shares_of_frame(p);
  return shares > 1 ? 2 * p.depth.batch * shares * static_cast<int64_t>(sizeof(CenterSums<int32_t>)) : 0;
}

void run(const HandCenter& p, Queue queue) {
  const int shares = shares_of_frame(p);
  visit_depth(p.depth.dtype, [&]<class T>(Type<T>) {
    p.mask ? launch_for<T, true>(p, shares, queue) : launch_for<T, false>(p, shares, queue);
  });
}

}  // namespace poseren::cuda
