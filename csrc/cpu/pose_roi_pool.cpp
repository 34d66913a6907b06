// SPDX-License-Identifier: MIT
#include "cpu/pose_roi_pool.h"

#include "cpu/fetch.h"
#include "cpu/parallel.h"
#include "cpu/pool_region.h"

namespace poseren::cpu {
namespace {

constexpr int64_t kBlock = 16;           // channels, whose maps stay in the first-level cache for all regions
constexpr int64_t kBlocksPerThread = 4;  // at least
constexpr int64_t kAhead = 6;            // pieces: how far ahead the places of results are brought to the cache

// Regions [B, M, C, P, P] in pieces of some channels: unit i is a block of channels of one sample, of which each region
// takes a piece.
struct Pieces {
  const RegionPool& p;
  int64_t blocks;  // of a sample

  explicit Pieces(const RegionPool& pool) : p(pool), blocks((pool.channels + kBlock - 1) / kBlock) {}
  int64_t sample(int64_t unit) const { return unit / blocks; }
  int64_t channel(int64_t unit) const { return unit % blocks * kBlock; }
  int64_t channels(int64_t unit) const { return std::min(kBlock, p.channels - channel(unit)); }
  int64_t offset(int64_t unit, int64_t m) const {
    return ((sample(unit) * p.joints.count + m) * p.channels + channel(unit)) * p.bins * p.bins;
  }
};

template <class T, class Position>
void pool_regions(const PoseRoiPool& op) {
  constexpr int64_t kBytes = sizeof(T);
  const RegionPool& p = op.pool;
  const Pieces pieces(p);
  const int64_t count = p.joints.count, bins = p.bins * p.bins;
  const int64_t share = (p.channels * p.height * p.width - 1) / (pieces.blocks * count) + 1;
  const T* features = static_cast<const T*>(op.features);
  T* result = static_cast<T*>(op.regions);
  parallel_ranges(p.batch * pieces.blocks, kBlocksPerThread, [&](int64_t begin, int64_t end) {
    SampleRegions<T> regions;
    RegionPool block = p;
    for (int64_t unit = begin; unit < end; unit++) {
      const int64_t sample = pieces.sample(unit);
      const T* map = features + sample * op.strides.sample + pieces.channel(unit) * op.strides.channel;
      block.channels = pieces.channels(unit);
      regions.look(p, static_cast<const Position*>(op.pose), sample);
      for (int64_t m = 0; m < count; m++) {
        // Stores that wait for memory hold up all that follows.
        const int64_t later = unit + (m + kAhead) / count;
        if (later < end)
          fetch<2>(result + pieces.offset(later, (m + kAhead) % count), pieces.channels(later) * bins * kBytes);
        // A share of the next sample's map with each piece of this one: nothing else foretells that it is needed.
        const int64_t part = (unit % pieces.blocks * count + m) * share;
        if (sample + 1 < p.batch) fetch<2>(features + (sample + 1) * op.strides.sample + part, share * kBytes);
        T* region = result + pieces.offset(unit, m);
        if (is_nowhere(regions.windows[m]))
          nowhere_region(block, region);
        else if (p.align)
          align_region(block, op.strides, map, regions.taps[m], region);
        else
          max_region(block, op.strides, map, regions.windows[m], region);
      }
    }
  });
}

}  // namespace

void run(const PoseRoiPool& op, Queue) {
  visit_features(op.pool.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    op.pool.pose_dtype == DType::f64 ? pool_regions<T, double>(op) : pool_regions<T, float>(op);
  });
}

}  // namespace poseren::cpu
