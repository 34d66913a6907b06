// SPDX-License-Identifier: MIT
#include <algorithm>
#include <bit>

#include "core/kernels.h"
#include "cpu/parallel.h"
#include "cpu/pool_region.h"
#include "cpu/prefetch.h"

namespace poseren::cpu {
namespace {

constexpr int64_t kBlockBytes = 10240;      // of feature maps, kept in L1 while all regions are copied from them
constexpr int64_t kChannelsPerThread = 64;  // at least
constexpr int64_t kAhead = 4;               // tiles between the prefetch of a destination and its store

// Splits the regions [B, M, C, P, P] into tiles. A unit of work is a block of channels of one sample; each of its M
// regions is a tile.
struct Tiles {
  const RegionPool& pool;
  int64_t block, blocks;  // channels per block, blocks per sample

  Tiles(const RegionPool& pool, const MapStrides& strides, int64_t value_bytes) : pool(pool) {
    const int64_t plane = pool.height * pool.width, fit = kBlockBytes / (plane * value_bytes);
    // A power of two, so that tiles begin at cache lines. All channels if the columns of the map are not adjacent.
    block = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(std::clamp<int64_t>(fit, 1, pool.channels))));
    if (strides.column != 1) block = pool.channels;
    blocks = (pool.channels + block - 1) / block;
  }
  int64_t sample(int64_t unit) const { return unit / blocks; }
  int64_t channel(int64_t unit) const { return unit % blocks * block; }
  int64_t channels(int64_t unit) const { return std::min(block, pool.channels - channel(unit)); }
  int64_t offset(int64_t unit, int64_t m) const {
    return ((sample(unit) * pool.joints.count + m) * pool.channels + channel(unit)) * pool.bins * pool.bins;
  }
};

template <class T, class Position>
void pool_regions(const PoseRoiPool& p) {
  constexpr int64_t kBytes = sizeof(T);
  const RegionPool& pool = p.pool;
  const Tiles tiles(pool, p.strides, kBytes);
  const int64_t count = pool.joints.count, bins = pool.bins * pool.bins;
  const bool copies_rows = p.strides.column == 1;
  const int64_t part = (tiles.block * pool.height * pool.width - 1) / count + 1;
  const auto maps = [&](int64_t unit) {
    return static_cast<const T*>(p.features) + tiles.sample(unit) * p.strides.sample +
           tiles.channel(unit) * p.strides.channel;
  };
  T* result = static_cast<T*>(p.regions);
  const int64_t grain = (kChannelsPerThread - 1) / tiles.block + 1;
  parallel_ranges(pool.batch * tiles.blocks, grain, [&](int64_t begin, int64_t end) {
    SampleRegions<T> regions;
    RegionPool block = pool;
    for (int64_t unit = begin; unit < end; unit++) {
      block.channels = tiles.channels(unit);
      regions.update(pool, static_cast<const Position*>(p.pose), tiles.sample(unit));
      for (int64_t m = 0; m < count; m++) {
        // Stores miss the cache and stall; prefetch the destination kAhead tiles early.
        const int64_t later = unit + (m + kAhead) / count;
        if (copies_rows && later < end)
          prefetch<2>(result + tiles.offset(later, (m + kAhead) % count), tiles.channels(later) * bins * kBytes);
        // The hardware prefetcher cannot predict the next block of maps; prefetch 1/M of it per region.
        if (unit + 1 < end) {
          const T* next = maps(unit + 1) + m * part;
          copies_rows ? prefetch<1>(next, part * kBytes) : prefetch<2>(next, part * kBytes);
        }
        T* region = result + tiles.offset(unit, m);
        if (is_invalid(regions.windows[m]))
          invalid_region(block, region);
        else if (pool.align)
          align_region(block, p.strides, maps(unit), regions.taps[m], region);
        else
          max_region(block, p.strides, maps(unit), regions.windows[m], region);
      }
    }
  });
}

}  // namespace

void run(const RoiWindows& p, Queue) {
  for_each(p.batch * p.joints.count, 4096, p);
}

void run(const PoseRoiPool& p, Queue) {
  visit_pool(p.pool, [&]<class T, class Position>(Type<T>, Type<Position>) { pool_regions<T, Position>(p); });
}

}  // namespace poseren::cpu
