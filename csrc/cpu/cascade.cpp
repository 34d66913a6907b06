// SPDX-License-Identifier: MIT
// The cascade on the CPU. Every stage finds the windows that moved, pools those regions and streams each layer's
// weights once past the samples that need them. A thread takes the next block of weight rows when it is done with one.
#include "cpu/cascade.h"

#include <algorithm>
#include <atomic>
#include <limits>
#include <vector>

#include "cpu/isa/dense.h"
#include "cpu/parallel.h"
#include "cpu/pool_region.h"

namespace poseren::cpu {
namespace {

constexpr int64_t kSamplesAtOnce = 256;  // bounds the scratch memory
constexpr int64_t kUnitBytes = 1 << 19;  // of weights that a thread takes at a time
constexpr int64_t kRowsOfUnit = 4;       // in multiples of these
constexpr int64_t kFloatsOfCacheLine = 16;

// Room for that many floats: an odd number of cache lines, so that the rows of several samples do not compete for the
// same places in the cache.
int64_t padded(int64_t floats) {
  const int64_t lines = (floats + kFloatsOfCacheLine - 1) / kFloatsOfCacheLine;
  return (lines | 1) * kFloatsOfCacheLine;
}

// Where the values of a sample lie in scratch, which holds them from stage to stage.
struct Layout {
  int64_t samples;     // at once
  int64_t region;      // floats of a pooled region [C, P, P]
  int64_t looked;      // of a sample's first-layer outputs, side by side as the fingers take them: [F, K, W1]
  int64_t understood;  // of a sample's second-layer outputs [F, W2]

  explicit Layout(const CascadeRefine& op)
      : samples(std::min(op.pool.batch, kSamplesAtOnce)),
        region(padded(op.region.depth)),
        looked(padded(op.tree.slots() * op.region.rows)),
        understood(padded(op.joint.depth)) {}

  int64_t floats(const CascadeRefine& op) const {
    return samples * (op.pool.joints.count * region + looked + understood) + kFloatsOfCacheLine;
  }
};

// The samples that one group of a layer has to be computed for.
struct Demand {
  std::vector<const float*> input;
  std::vector<float*> output;

  void reserve(int64_t samples) {
    input.reserve(samples);
    output.reserve(samples);
  }
  void clear() {
    input.clear();
    output.clear();
  }
  void add(const float* in, float* out) {
    input.push_back(in);
    output.push_back(out);
  }
};

// body(unit) for every unit in [0, count), by whichever thread is free.
template <class Body>
void share_units(int64_t count, const Body& body) {
  std::atomic<int64_t> next{0};
  uint32_t threads = 1;
  torch_get_num_threads(&threads);
  parallel_ranges(std::min<int64_t>(threads, count), 1, [&](int64_t, int64_t) {
    for (int64_t unit; (unit = next.fetch_add(1, std::memory_order_relaxed)) < count;) body(unit);
  });
}

class Cascade {
 public:
  explicit Cascade(const CascadeRefine& op)
      : op_(op),
        layout_(op),
        windows_(layout_.samples * op.pool.joints.count),
        slots_(op.pool.joints.count),
        regions_(op.region.groups),
        fingers_(op.finger.groups),
        joints_(1) {
    on_best_isa([&]<class Isa>(Isa) { dense_rows_ = dense_rows<Isa>; });
    for (int64_t slot = 0; slot < op.tree.slots(); slot++) slots_[op.tree.region[slot]].push_back(slot);
    const uintptr_t line = kFloatsOfCacheLine * sizeof(float);
    pooled_ = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(op.scratch) + line - 1) / line * line);
    looked_ = pooled_ + layout_.samples * op.pool.joints.count * layout_.region;
    understood_ = looked_ + layout_.samples * layout_.looked;
    moved_.reserve(layout_.samples * op.pool.joints.count);
    for (auto* layer : {&regions_, &fingers_, &joints_})
      for (Demand& demand : *layer) demand.reserve(layout_.samples);
  }

  // The samples from `first` on, `count` of them.
  void refine(int64_t first, int64_t count) {
    first_ = first;
    std::copy_n(op_.pose + first * pose_size(), count * pose_size(), pose(0, 0));
    std::fill_n(op_.stages_run + first, count, 0);
    for (int64_t stage = 1; stage <= op_.stages; stage++) {
      start_stage(stage);
      for (int64_t sample = 0; sample < count; sample++) plan_sample(sample);
      pool_moved();
      run_layer(op_.region, regions_, true, true);
      run_layer(op_.finger, fingers_, true, false);
      run_layer(op_.joint, joints_, false, false);
    }
  }

 private:
  struct MovedRegion {
    int64_t sample, m;
  };

  int64_t pose_size() const { return op_.pool.num_joints * op_.pool.num_axes; }
  float* pose(int64_t stage, int64_t sample) const {
    return op_.poses + (stage * op_.pool.batch + first_ + sample) * pose_size();
  }

  void start_stage(int64_t stage) {
    stage_ = stage;
    moved_.clear();
    for (auto* layer : {&regions_, &fingers_, &joints_})
      for (Demand& demand : *layer) demand.clear();
  }

  // Notes what has to be computed for a sample; where that is nothing, its new pose is already known.
  void plan_sample(int64_t sample) {
    const RegionPool& p = op_.pool;
    const int64_t regions = p.joints.count;
    Window* known = windows_.data() + sample * regions;
    bool moved[JointList::kCapacity];
    bool any = false, any_used = false, lost = false;
    for (int64_t m = 0; m < regions; m++) {
      const Window w = region_window(p, pose(stage_ - 1, sample), 0, m);
      moved[m] = stage_ == 1 || p.align || !(w == known[m]);
      known[m] = w;
      any |= moved[m];
      if (slots_[m].empty()) continue;
      any_used |= moved[m];
      lost |= is_nowhere(w);
    }
    op_.stages_run[first_ + sample] += any;
    if (lost)
      std::fill_n(pose(stage_, sample), pose_size(), std::numeric_limits<float>::quiet_NaN());
    else if (!any_used)
      std::copy_n(pose(stage_ - 1, sample), pose_size(), pose(stage_, sample));
    else
      demand_sample(sample, moved);
  }

  void demand_sample(int64_t sample, const bool* moved) {  // moved: [M]
    float* looked = looked_ + sample * layout_.looked;
    float* understood = understood_ + sample * layout_.understood;
    for (int64_t m = 0; m < op_.pool.joints.count; m++) {
      if (!moved[m] || slots_[m].empty()) continue;
      regions_[m].add(pooled(moved_.size()), looked + slots_[m][0] * op_.region.rows);
      moved_.push_back({sample, m});
    }
    const FingerTree& tree = op_.tree;
    for (int64_t f = 0; f < tree.fingers; f++) {
      const int16_t* members = tree.region + f * tree.members;
      if (std::any_of(members, members + tree.members, [&](int64_t m) { return moved[m]; }))
        fingers_[f].add(looked + f * op_.finger.depth, understood + f * op_.finger.rows);
    }
    joints_[0].add(understood, pose(stage_, sample));
  }

  float* pooled(int64_t i) const { return pooled_ + i * layout_.region; }

  void pool_moved() const {
    const RegionPool& p = op_.pool;
    parallel_ranges(static_cast<int64_t>(moved_.size()), 4, [&](int64_t begin, int64_t end) {
      AlignTaps<float> taps;
      for (int64_t i = begin; i < end; i++) {
        const auto [sample, m] = moved_[i];
        const float* map = op_.features + (first_ + sample) * op_.strides.sample;
        if (p.align) {
          taps.place(p, pose(stage_ - 1, sample) + joint_offset(p, 0, m));
          align_region(p, op_.strides, map, taps, pooled(i));
        } else {
          max_region(p, op_.strides, map, windows_[sample * p.joints.count + m], pooled(i));
        }
      }
    });
  }

  // Computes what is demanded of a layer's groups; `to_all_slots`: its outputs go to every finger that takes them.
  void run_layer(const HeadLayer& layer, const std::vector<Demand>& demands, bool relu, bool to_all_slots) {
    active_.clear();
    for (size_t g = 0; g < demands.size(); g++)
      if (!demands[g].input.empty()) active_.push_back(static_cast<int64_t>(g));
    const int64_t weight_size = visit_weights(
        op_.weight_dtype, [](auto type) { return static_cast<int64_t>(sizeof(typename decltype(type)::type)); });
    const int64_t row_bytes = std::max<int64_t>(layer.depth * weight_size, 1);
    const int64_t rows = std::max<int64_t>(kUnitBytes / row_bytes / kRowsOfUnit, 1) * kRowsOfUnit;
    const int64_t groups = static_cast<int64_t>(active_.size()), blocks = (layer.rows + rows - 1) / rows;
    // One group after the other: its inputs stay in the cache.
    share_units(groups * blocks, [&](int64_t unit) {
      const int64_t group = active_[unit / blocks], first = unit % blocks * rows;
      const int64_t last = std::min(first + rows, layer.rows);
      const Demand& demand = demands[group];
      dense_rows_(group_of(layer, group, weight_size, demand, relu), first, last);
      if (to_all_slots) copy_to_slots(group, demand, first, last);
    });
  }

  Dense group_of(const HeadLayer& layer, int64_t group, int64_t weight_size, const Demand& demand, bool relu) const {
    const char* weight = static_cast<const char*>(layer.weight) + group * layer.rows * layer.depth * weight_size;
    const float* scale = layer.scale ? layer.scale + group * layer.rows : nullptr;
    return {weight,
            scale,
            layer.bias + group * layer.rows,
            op_.weight_dtype,
            layer.depth,
            static_cast<int64_t>(demand.input.size()),
            demand.input.data(),
            demand.output.data(),
            relu};
  }

  void copy_to_slots(int64_t m, const Demand& demand, int64_t first, int64_t last) const {
    for (float* output : demand.output)
      for (size_t i = 1; i < slots_[m].size(); i++)
        std::copy(output + first, output + last, output + (slots_[m][i] - slots_[m][0]) * op_.region.rows + first);
  }

  const CascadeRefine& op_;
  const Layout layout_;
  void (*dense_rows_)(const Dense&, int64_t, int64_t) = nullptr;
  int64_t first_ = 0, stage_ = 0;
  std::vector<Window> windows_;              // [samples, M]: of the stage before
  std::vector<std::vector<int64_t>> slots_;  // [M]: the region's places in [F, K]
  std::vector<MovedRegion> moved_;
  std::vector<Demand> regions_, fingers_, joints_;
  std::vector<int64_t> active_;
  float *pooled_, *looked_, *understood_;
};

}  // namespace

int64_t scratch_bytes(const CascadeRefine& op, Queue) {
  return Layout(op).floats(op) * static_cast<int64_t>(sizeof(float));
}

void run(const CascadeRefine& op, Queue) {
  Cascade cascade(op);
  for (int64_t first = 0; first < op.pool.batch; first += kSamplesAtOnce)
    cascade.refine(first, std::min(kSamplesAtOnce, op.pool.batch - first));
}

}  // namespace poseren::cpu
