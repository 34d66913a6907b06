// SPDX-License-Identifier: MIT
// Pooling of one region of one sample by a block: used by pose_roi_pool for every region and by the cascade for those
// that moved.
#pragma once

#include "core/pose_roi_pool.h"
#include "cuda/warp.h"

namespace poseren::cuda {

// reader(c, by, bx) is the value of a region at channel c, row by and column bx.
template <class T>
struct MaxReader {
  using Sum = Accumulator<T>;

  const RegionPool& p;
  const MapStrides& s;
  const T* map;  // [C, H, W]
  Window window;
  bool crops = is_crop(window, p.bins);

  __device__ Sum operator()(int64_t c, int64_t by, int64_t bx) const {
    const T* plane = map + c * s.channel;
    MapCell cell{window.y0 + by, window.x0 + bx};
    if (!crops)
      cell = max_cell(plane, s, bin_range(window.y0, window.y1, by, p.bins, p.height),
                      bin_range(window.x0, window.x1, bx, p.bins, p.width));
    const bool inside = cell.row >= 0 && cell.row < p.height && cell.column < p.width;
    return inside ? load(plane + cell.row * s.row + cell.column * s.column) : Sum(0);
  }
};

// Blends the rows of a bin's sampling points into a line, then samples the line at their columns, in the same order of
// sums as the CPU.
template <class T, class Position>
struct AlignReader {
  using Sum = Accumulator<T>;

  const RegionPool& p;
  const MapStrides& s;
  const T* map;  // [C, H, W]
  SampleGrid<Position> x, y;

  __device__ Sum operator()(int64_t c, int64_t by, int64_t bx) const {
    const T* plane = map + c * s.channel;
    Sum sum = 0;
    for (int64_t i = bx * p.samples; i < (bx + 1) * p.samples; i++) {
      const Tap<Sum> tap = sample_tap<Sum>(x, i, p.width);
      if (tap.inside) sum += (1 - tap.weight) * line(plane, by, tap.low) + tap.weight * line(plane, by, tap.high);
    }
    return sum * (Sum(1) / static_cast<Sum>(p.samples * p.samples));
  }

  __device__ Sum line(const T* plane, int64_t by, int64_t column) const {
    const T* at = plane + column * s.column;
    Sum sum = 0;
    for (int64_t i = by * p.samples; i < (by + 1) * p.samples; i++) {
      const Tap<Sum> tap = sample_tap<Sum>(y, i, p.height);
      if (tap.inside) sum += (1 - tap.weight) * load(at + tap.low * s.row) + tap.weight * load(at + tap.high * s.row);
    }
    return sum;
  }
};

// Fills the region of an invalid joint with NaN.
template <class T>
struct InvalidReader {
  __device__ Accumulator<T> operator()(int64_t, int64_t, int64_t) const { return kNaN<Accumulator<T>>; }
};

// The block writes the reader's region [C, P, P], kPack neighbours per thread; C*P*P is a multiple of kPack.
template <int kPack, class T, class Reader>
__device__ void write_packs(const Reader& reader, const RegionPool& p, T* region) {
  const int64_t size = p.channels * p.bins * p.bins;
  for (int64_t first = int64_t{threadIdx.x} * kPack; first < size; first += int64_t{blockDim.x} * kPack) {
    int64_t c = first / (p.bins * p.bins), by = first / p.bins % p.bins, bx = first % p.bins;
    Pack<T> pack;
#pragma unroll
    for (int i = 0; i < kPack; i++) {
      store(&pack.value[i], reader(c, by, bx));
      if (++bx < p.bins) continue;
      bx = 0;
      if (++by < p.bins) continue;
      by = 0;
      c++;
    }
    if constexpr (kPack > 1)
      store_pack(region + first, pack);
    else
      region[first] = pack.value[0];
  }
}

template <class T, class Reader>
__device__ void write_region(const Reader& reader, const RegionPool& p, T* region) {
  constexpr int kPack = Pack<T>::kSize;
  if (p.channels * p.bins * p.bins % kPack == 0 && is_aligned(region))
    write_packs<kPack>(reader, p, region);
  else
    write_packs<1>(reader, p, region);
}

// The block pools the region of a normalised joint [>=2] from the map [C, H, W] to region [C, P, P].
template <bool kAlign, class T, class Position>
__device__ void pool_region(const RegionPool& p, const MapStrides& s, const T* map, const Position* joint, T* region) {
  const float xy[2] = {static_cast<float>(joint[0]), static_cast<float>(joint[1])};
  const Window window = window_at(xy, p.geometry);
  if (is_invalid(window))
    write_region(InvalidReader<T>{}, p, region);
  else if constexpr (kAlign)
    write_region(AlignReader<T, Position>{p, s, map, sample_grid(p, joint[0]), sample_grid(p, joint[1])}, p, region);
  else
    write_region(MaxReader<T>{p, s, map, window}, p, region);
}

}  // namespace poseren::cuda
