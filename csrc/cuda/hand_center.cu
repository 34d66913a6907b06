// SPDX-License-Identifier: MIT
// A block a frame. Warp w takes the rows w, w + 32, ... of a region, so that a warp is a lane of core's sums of rows.
#include "cuda/hand_center.h"

#include "cuda/pack.h"
#include "cuda/warp.h"

namespace poseren::cuda {
namespace {

constexpr int kWarps = kSumLanes;
static_assert(kSumLanes == kWarp);

// The pixels of a row that count, as sums of one lane.
template <class T, bool kMasked>
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

  // Adds the pixels at x, x + 1, ... of a row; x counts from the region's left.
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

  // Integers: 16 bytes a load, whole packs between the first and the last 16-byte boundary.
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
#pragma unroll 4
    for (int64_t k = lane; k < packs; k += kWarp)
      add(load_pack(data + head + k * kPack).value, row, head + k * kPack, sums);
    if (lane < width - tail) add({data[tail + lane]}, row, tail + lane, sums);
  }

  // Floating-point depths keep to core's lanes: the row's own sum first.
  __device__ void add_row(int64_t row, int lane, CenterSums<T>& sums) const
    requires(!std::is_integral_v<T>)
  {
    const T* const data = stored(row);
    const int64_t width = region.right - region.left;
    const double rows_before = sums.depth;
    sums.depth = 0;
#pragma unroll 4
    for (int64_t x = lane; x < width; x += kWarp) add({data[x]}, row, x, sums);
    sums.depth = rows_before + fold_warp(sums.depth);
  }
};

// Of all lanes; the sums are lane 0's. Floating-point depths have been folded row by row.
template <class T>
__device__ CenterSums<T> fold_lanes_of_warp(CenterSums<T> sums) {
  sums.count = fold_warp(sums.count);
  sums.columns = fold_warp(sums.columns);
  sums.rows = fold_warp(sums.rows);
  if constexpr (std::is_integral_v<T>) sums.depth = fold_warp(sums.depth);
  return sums;
}

// The sums are thread 0's.
template <class T>
__device__ CenterSums<T> fold_warps_of_block(const CenterSums<T>& of_warp) {
  SHARED(partial, CenterSums<T>[kWarps]);
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  if (lane == 0) partial[warp] = of_warp;
  __syncthreads();
  CenterSums<T> sums = partial[lane];
  if (warp == 0) {
    if constexpr (!std::is_integral_v<T>) sums.depth = fold_warp(sums.depth);
    sums = fold_lanes_of_warp(sums);
  }
  __syncthreads();
  return sums;
}

template <class T, bool kMasked>
__global__ void __launch_bounds__(kWarps* kWarp) hand_center(const HandCenter p) {
  SHARED(found, bool);
  const int lane = static_cast<int>(threadIdx.x) % kWarp, warp = static_cast<int>(threadIdx.x) / kWarp;
  const int64_t sample = blockIdx.x;
  CenterRegion region = whole_frame(p);
  for (int64_t pass = 0; pass <= p.iterations; pass++) {
    if (pass > 0) region = inside_cube(p, sample, p.center + sample * 3);
    const RowSummer<T, kMasked> summer{p, sample, region};
    CenterSums<T> sums{};
    for (int64_t row = region.top + warp; row < region.bottom; row += kWarps)
      if (region.left < region.right) summer.add_row(row, lane, sums);
    sums = fold_warps_of_block(fold_lanes_of_warp(sums));
    if (threadIdx.x == 0) found = store_center(p, sample, sums, pass > 0);
    __syncthreads();
    if (!found) return;
  }
}

}  // namespace

void run(const HandCenter& body, Queue queue) {
  const Launch at{.grid = grid_of(body.depth.batch), .block = kWarps * kWarp, .stream = queue.stream};
  visit_depth(body.depth.dtype, [&]<class T>(Type<T>) {
    body.mask ? launch<hand_center<T, true>>(at, body) : launch<hand_center<T, false>>(at, body);
  });
}

}  // namespace poseren::cuda
