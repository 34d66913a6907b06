// SPDX-License-Identifier: MIT
#include "cpu/pose_roi_pool.h"

#include <algorithm>
#include <bit>

#include "cpu/fetch.h"
#include "cpu/parallel.h"
#include "cpu/pool_region.h"

namespace poseren::cpu {
namespace {

constexpr int64_t kBlockBytes = 10240;      // of maps in the first-level cache while all regions are cut from them
constexpr int64_t kChannelsPerThread = 64;  // of all regions, at least
constexpr int64_t kAhead = 4;               // pieces: how far ahead the places of results are brought to the cache

// Regions [B, M, C, P, P] in pieces of some channels: unit i is a block of channels of one sample, of which each region
// takes a piece.
struct Pieces {
  const RegionPool& p;
  int64_t block, blocks;  // channels of a block, blocks of a sample

  Pieces(const RegionPool& pool, const MapStrides& strides, int64_t value_bytes) : p(pool) {
    const int64_t plane = p.height * p.width, fit = kBlockBytes / (plane * value_bytes);
    // A power of two, so that pieces begin where cache lines do. All channels of maps whose rows have gaps.
    block = static_cast<int64_t>(std::bit_floor(static_cast<uint64_t>(std::clamp<int64_t>(fit, 1, p.channels))));
    if (strides.column != 1) block = p.channels;
    blocks = (p.channels + block - 1) / block;
  }
  int64_t sample(int64_t unit) const { return unit / blocks; }
  int64_t channel(int64_t unit) const { return unit % blocks * block; }
  int64_t channels(int64_t unit) const { return std::min(block, p.channels - channel(unit)); }
  int64_t offset(int64_t unit, int64_t m) const {
    return ((sample(unit) * p.joints.count + m) * p.channels + channel(unit)) * p.bins * p.bins;
  }
};

template <class T, class Position>
void pool_regions(const PoseRoiPool& op) {
  constexpr int64_t kBytes = sizeof(T);
  const RegionPool& p = op.pool;
  const Pieces pieces(p, op.strides, kBytes);
  const int64_t count = p.joints.count, bins = p.bins * p.bins;
  const bool copies_rows = op.strides.column == 1;
  const int64_t share = (pieces.block * p.height * p.width - 1) / count + 1;
  const auto maps = [&](int64_t unit) {
    return static_cast<const T*>(op.features) + pieces.sample(unit) * op.strides.sample +
           pieces.channel(unit) * op.strides.channel;
  };
  T* result = static_cast<T*>(op.regions);
  const int64_t grain = (kChannelsPerThread - 1) / pieces.block + 1;
  parallel_ranges(p.batch * pieces.blocks, grain, [&](int64_t begin, int64_t end) {
    SampleRegions<T> regions;
    RegionPool block = p;
    for (int64_t unit = begin; unit < end; unit++) {
      block.channels = pieces.channels(unit);
      regions.look(p, static_cast<const Position*>(op.pose), pieces.sample(unit));
      for (int64_t m = 0; m < count; m++) {
        // Rows are copied faster than memory follows, and a store that waits for it holds up all else.
        const int64_t later = unit + (m + kAhead) / count;
        if (copies_rows && later < end)
          fetch<2>(result + pieces.offset(later, (m + kAhead) % count), pieces.channels(later) * bins * kBytes);
        // Nothing foretells that the next block's maps are needed: a share of them with each piece of this one.
        if (unit + 1 < end) {
          const T* next = maps(unit + 1) + m * share;
          copies_rows ? fetch<1>(next, share * kBytes) : fetch<2>(next, share * kBytes);
        }
        T* region = result + pieces.offset(unit, m);
        if (is_nowhere(regions.windows[m]))
          nowhere_region(block, region);
        else if (p.align)
          align_region(block, op.strides, maps(unit), regions.taps[m], region);
        else
          max_region(block, op.strides, maps(unit), regions.windows[m], region);
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
