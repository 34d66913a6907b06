// SPDX-License-Identifier: MIT
// The cascade on the CPU. Every stage finds the windows that moved, pools those regions and streams each layer's
// weights once past the samples that need them.
#include "cpu/cascade.h"

#include <algorithm>
#include <limits>
#include <vector>

#include "cpu/isa/dense.h"
#include "cpu/isa/fixed_point.h"
#include "cpu/parallel.h"
#include "cpu/pool_region.h"
#include "cpu/shared_units.h"

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
  int64_t look;        // of a region's first-layer outputs [W1]
  int64_t looked;      // of a sample's [M]
  int64_t shares;      // of what each region gives to the sums of each of its fingers [F, K, W2]
  int64_t understood;  // of a sample's second-layer outputs [F, W2]

  explicit Layout(const CascadeRefine& op)
      : samples(std::min(op.pool.batch, kSamplesAtOnce)),
        region(room(op.region.depth)),
        look(room(op.region.rows)),
        looked(padded(op.region.groups * look)),
        shares(padded(op.tree.slots() * op.finger.rows)),
        understood(padded(op.joint.depth)) {}

  // For that many floats, or as many values in fixed point.
  static int64_t room(int64_t floats) { return padded(std::max(floats, fixed_point_floats(floats))); }

  int64_t floats(const CascadeRefine& op) const {
    return samples * (op.pool.joints.count * region + looked + shares + understood) + kFloatsOfCacheLine;
  }
};

// What has to be computed of a layer: for each part of a group the samples whose products with it are not known; for
// each group those whose outputs change. The inputs of a finger come in one part a region, those of other layers in
// one.
struct Demand {
  struct Part {
    std::vector<const float*> input;
    std::vector<float*> sums;  // [rows] each
  };
  struct Output {
    const float* sums;  // [parts, rows]
    float* values;      // [rows]
  };
  int64_t parts;                             // of a group
  std::vector<Part> part;                    // [groups, parts]
  std::vector<std::vector<Output>> outputs;  // [groups]

  Demand(int64_t groups, int64_t parts, int64_t samples) : parts(parts), part(groups * parts), outputs(groups) {
    for (Part& some : part) {
      some.input.reserve(samples);
      some.sums.reserve(samples);
    }
    for (auto& some : outputs) some.reserve(samples);
  }
  void clear() {
    for (Part& some : part) {
      some.input.clear();
      some.sums.clear();
    }
    for (auto& some : outputs) some.clear();
  }
  void multiply(int64_t index, const float* input, float* sums) {
    part[index].input.push_back(input);
    part[index].sums.push_back(sums);
  }
};

class Cascade {
 public:
  explicit Cascade(const CascadeRefine& op)
      : op_(op),
        layout_(op),
        windows_(layout_.samples * op.pool.joints.count),
        is_used_(op.pool.joints.count),
        regions_(op.region.groups, 1, layout_.samples),
        fingers_(op.finger.groups, op.tree.members, layout_.samples),
        joints_(1, 1, layout_.samples) {
    on_best_isa([&]<class Isa>(Isa) {
      dense_rows_ = dense_rows<Isa>;
      if constexpr (kHasFixedPoint<Isa>) {
        if (op.weight_dtype != DType::i8 || std::max(op.region.depth, op.region.rows) > kFixedPointDepth) return;
        to_fixed_point_ = to_fixed_point<Isa>;
        fixed_point_rows_ = fixed_point_rows<Isa>;
      }
    });
    for (int64_t slot = 0; slot < op.tree.slots(); slot++) is_used_[op.tree.region[slot]] = true;
    const uintptr_t line = kFloatsOfCacheLine * sizeof(float);
    pooled_ = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(op.scratch) + line - 1) / line * line);
    looked_ = pooled_ + layout_.samples * op.pool.joints.count * layout_.region;
    shares_ = looked_ + layout_.samples * layout_.looked;
    understood_ = shares_ + layout_.samples * layout_.shares;
    moved_.reserve(layout_.samples * op.pool.joints.count);
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
      run_layer(op_.region, regions_, true);
      if (to_fixed_point_)
        for_each(static_cast<int64_t>(moved_.size()), 8,
                 [&](int64_t i) { to_fixed_point_(looked(moved_[i].sample, moved_[i].m), op_.region.rows); });
      run_layer(op_.finger, fingers_, true);
      run_layer(op_.joint, joints_, false);
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
    for (Demand* layer : {&regions_, &fingers_, &joints_}) layer->clear();
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
      if (!is_used_[m]) continue;
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
    float* understood = understood_ + sample * layout_.understood;
    for (int64_t m = 0; m < op_.pool.joints.count; m++) {
      if (!moved[m] || !is_used_[m]) continue;
      float* seen = looked(sample, m);
      regions_.multiply(m, pooled(moved_.size()), seen);
      regions_.outputs[m].push_back({seen, seen});
      moved_.push_back({sample, m});
    }
    for (int64_t f = 0; f < op_.tree.fingers; f++) {
      const int64_t first = f * op_.tree.members;
      float* shares = shares_ + sample * layout_.shares + first * op_.finger.rows;
      bool any = false;
      for (int64_t k = 0; k < op_.tree.members; k++) {
        const int64_t m = op_.tree.region[first + k];
        if (!moved[m]) continue;
        fingers_.multiply(first + k, looked(sample, m), shares + k * op_.finger.rows);
        any = true;
      }
      if (any) fingers_.outputs[f].push_back({shares, understood + f * op_.finger.rows});
    }
    joints_.multiply(0, understood, pose(stage_, sample));
    joints_.outputs[0].push_back({pose(stage_, sample), pose(stage_, sample)});
  }

  float* pooled(int64_t i) const { return pooled_ + i * layout_.region; }
  float* looked(int64_t sample, int64_t m) const { return looked_ + sample * layout_.looked + m * layout_.look; }

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
        if (to_fixed_point_) to_fixed_point_(pooled(i), op_.region.depth);
      }
    });
  }

  // Computes what is demanded of a layer.
  void run_layer(const HeadLayer& layer, const Demand& demand, bool relu) {
    active_.clear();
    for (int64_t g = 0; g < layer.groups; g++)
      if (!demand.outputs[g].empty()) active_.push_back(g);
    const int64_t row_bytes = std::max<int64_t>(layer.depth * weight_size(), 1);
    const int64_t rows = std::max<int64_t>(kUnitBytes / row_bytes / kRowsOfUnit, 1) * kRowsOfUnit;
    const int64_t groups = static_cast<int64_t>(active_.size()), blocks = (layer.rows + rows - 1) / rows;
    // One group after the other: its inputs stay in the cache.
    units_.run(groups * blocks, [&](int64_t unit) {
      const int64_t group = active_[unit / blocks], first = unit % blocks * rows;
      const int64_t last = std::min(first + rows, layer.rows);
      for (int64_t k = 0; k < demand.parts; k++) multiply(layer, demand, group, k, first, last);
      for (const Demand::Output& output : demand.outputs[group])
        finish(layer, group, demand.parts, output, first, last, relu);
    });
  }

  int64_t weight_size() const {
    return visit_weights(op_.weight_dtype,
                         [](auto type) { return static_cast<int64_t>(sizeof(typename decltype(type)::type)); });
  }

  // Rows first..last of a group, a part of their depth.
  void multiply(const HeadLayer& layer, const Demand& demand, int64_t group, int64_t part, int64_t first,
                int64_t last) const {
    const auto& [input, sums] = demand.part[group * demand.parts + part];
    if (input.empty()) return;
    const int64_t depth = layer.depth / demand.parts;
    const int64_t offset = group * layer.rows * layer.depth + part * depth;
    const bool fixed_point = fixed_point_rows_ && &layer != &op_.joint;  // the last layer is small
    (fixed_point ? fixed_point_rows_ : dense_rows_)(
        {static_cast<const char*>(layer.weight) + offset * weight_size(), layer.depth, op_.weight_dtype, depth,
         whole_depth_ ? depth : kPartDepth, static_cast<int64_t>(input.size()), input.data(), sums.data()},
        first, last);
  }

  static void finish(const HeadLayer& layer, int64_t group, int64_t parts, const Demand::Output& output, int64_t first,
                     int64_t last, bool relu) {
    const float* scale = layer.scale ? layer.scale + group * layer.rows : nullptr;
    const float* bias = layer.bias + group * layer.rows;
    float* values = output.values;
    for (int64_t row = first; row < last; row++) values[row] = output.sums[row];
    for (int64_t k = 1; k < parts; k++)
      for (int64_t row = first; row < last; row++) values[row] += output.sums[k * layer.rows + row];
    if (scale)
      for (int64_t row = first; row < last; row++) values[row] *= scale[row];
    for (int64_t row = first; row < last; row++) values[row] += bias[row];
    if (relu)
      for (int64_t row = first; row < last; row++) values[row] = values[row] < 0 ? 0.0f : values[row];  // NaN stays
  }

  const CascadeRefine& op_;
  const Layout layout_;
  void (*dense_rows_)(const Dense&, int64_t, int64_t) = nullptr;
  void (*to_fixed_point_)(float*, int64_t) = nullptr;  // or inputs stay floats
  void (*fixed_point_rows_)(const Dense&, int64_t, int64_t) = nullptr;
  const bool whole_depth_ = second_level_cache_suffices();
  int64_t first_ = 0, stage_ = 0;
  std::vector<Window> windows_;  // [samples, M]: of the stage before
  std::vector<bool> is_used_;    // [M]: by a finger
  std::vector<MovedRegion> moved_;
  Demand regions_, fingers_, joints_;
  std::vector<int64_t> active_;
  SharedUnits units_;
  float *pooled_, *looked_, *shares_, *understood_;
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
