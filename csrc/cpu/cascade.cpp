// SPDX-License-Identifier: MIT
// The cascade on the CPU. Every stage finds the windows that moved, pools those regions, and reads each layer's weights
// once for all samples that need them.
#include <algorithm>
#include <limits>
#include <vector>

#include "core/kernels.h"
#include "cpu/isa/fixed_point.h"
#include "cpu/isa/kernels.h"
#include "cpu/parallel.h"
#include "cpu/pool_region.h"
#include "cpu/work_stealing_range.h"

namespace poseren::cpu {
namespace {

constexpr int64_t kSamplesAtOnce = 256;  // bounds the scratch memory
constexpr int64_t kUnitBytes = 1 << 19;  // of weights per unit of work
constexpr int64_t kRowMultiple = 4;      // the rows of a unit are a multiple of this
constexpr int64_t kFloatsOfCacheLine = 16;

// Rounds up to an odd number of cache lines, so that the rows of several samples do not map to the same cache sets.
int64_t padded(int64_t floats) {
  const int64_t lines = (floats + kFloatsOfCacheLine - 1) / kFloatsOfCacheLine;
  return (lines | 1) * kFloatsOfCacheLine;
}

// The layout of the scratch memory, which keeps values from stage to stage. Sizes in floats.
struct Layout {
  int64_t samples;          // processed at once
  int64_t region;           // a pooled region [C, P, P]
  int64_t hidden_size;      // the hidden activation of a region [W1]
  int64_t region_hidden;    // of all regions of a sample [M, W1]
  int64_t finger_partials;  // the partial sum of each region of each finger of a sample [F, K, W2]
  int64_t finger_hidden;    // the hidden activations of the fingers of a sample [F, W2]

  explicit Layout(const CascadeRefine& p)
      : samples(std::min(p.pool.batch, kSamplesAtOnce)),
        region(input_size(p.region.depth)),
        hidden_size(input_size(p.region.rows)),
        region_hidden(padded(p.region.groups * hidden_size)),
        finger_partials(padded(p.tree.slots() * p.finger.rows)),
        finger_hidden(padded(p.joint.depth)) {}

  // A layer's input in float32 or in fixed point.
  static int64_t input_size(int64_t depth) { return padded(std::max(depth, fixed_point_floats(depth))); }

  int64_t floats(const CascadeRefine& p) const {
    return samples * (p.pool.joints.count * region + region_hidden + finger_partials + finger_hidden) +
           kFloatsOfCacheLine;
  }
};

// The work list of a layer. The input of a finger has one part per region, the input of the other layers one part.
// Lists the samples whose product with a part must be computed, and those whose outputs change.
struct WorkList {
  struct Part {
    std::vector<const float*> input;
    std::vector<float*> sums;  // [rows] each
  };
  struct Output {
    const float* sums;  // [parts, rows]
    float* values;      // [rows]
  };
  int64_t parts;                             // per group
  std::vector<Part> part;                    // [groups, parts]
  std::vector<std::vector<Output>> outputs;  // [groups]

  WorkList(int64_t groups, int64_t parts, int64_t samples) : parts(parts), part(groups * parts), outputs(groups) {
    for (Part& item : part) {
      item.input.reserve(samples);
      item.sums.reserve(samples);
    }
    for (auto& list : outputs) list.reserve(samples);
  }
  void clear() {
    for (Part& item : part) {
      item.input.clear();
      item.sums.clear();
    }
    for (auto& list : outputs) list.clear();
  }
  void add_product(int64_t index, const float* input, float* sums) {
    part[index].input.push_back(input);
    part[index].sums.push_back(sums);
  }
};

class Cascade {
 public:
  explicit Cascade(const CascadeRefine& p)
      : p_(p),
        layout_(p),
        windows_(layout_.samples * p.pool.joints.count),
        is_used_(p.pool.joints.count),
        regions_(p.region.groups, 1, layout_.samples),
        fingers_(p.finger.groups, p.tree.members, layout_.samples),
        joints_(1, 1, layout_.samples) {
    on_best_isa([&]<class Isa>(Isa) { dense_rows_ = dense_rows<Isa>; });
#ifdef POSEREN_X86
    if (isa() == Isa::avx512vnni && p.weight_dtype == DType::i8 &&
        std::max(p.region.depth, p.region.rows) <= kFixedPointDepth) {
      to_fixed_point_ = to_fixed_point;
      fixed_point_rows_ = fixed_point_rows;
    }
#endif
    for (int64_t slot = 0; slot < p.tree.slots(); slot++) is_used_[p.tree.region[slot]] = true;
    const uintptr_t line = kFloatsOfCacheLine * sizeof(float);
    pooled_ = reinterpret_cast<float*>((reinterpret_cast<uintptr_t>(p.scratch) + line - 1) / line * line);
    region_hidden_ = pooled_ + layout_.samples * p.pool.joints.count * layout_.region;
    finger_partials_ = region_hidden_ + layout_.samples * layout_.region_hidden;
    finger_hidden_ = finger_partials_ + layout_.samples * layout_.finger_partials;
    moved_.reserve(layout_.samples * p.pool.joints.count);
  }

  // Refines samples first to first + count.
  void refine(int64_t first, int64_t count) {
    first_ = first;
    std::copy_n(p_.pose + first * pose_size(), count * pose_size(), pose(0, 0));
    std::fill_n(p_.stages_run + first, count, 0);
    for (int64_t stage = 1; stage <= p_.stages; stage++) {
      start_stage(stage);
      for (int64_t sample = 0; sample < count; sample++) plan_sample(sample);
      pool_moved();
      run_layer(p_.region, regions_, true);
      if (to_fixed_point_)
        for_each(static_cast<int64_t>(moved_.size()), 8,
                 [&](int64_t i) { to_fixed_point_(region_hidden(moved_[i].sample, moved_[i].m), p_.region.rows); });
      run_layer(p_.finger, fingers_, true);
      run_layer(p_.joint, joints_, false);
    }
  }

 private:
  struct MovedRegion {
    int64_t sample, m;
  };

  int64_t pose_size() const { return p_.pool.num_joints * p_.pool.num_axes; }
  float* pose(int64_t stage, int64_t sample) const {
    return p_.poses + (stage * p_.pool.batch + first_ + sample) * pose_size();
  }

  void start_stage(int64_t stage) {
    stage_ = stage;
    moved_.clear();
    for (WorkList* layer : {&regions_, &fingers_, &joints_}) layer->clear();
  }

  // Adds the work of a sample to the lists, or writes its new pose if nothing has to be computed.
  void plan_sample(int64_t sample) {
    const RegionPool& pool = p_.pool;
    const int64_t regions = pool.joints.count;
    Window* known = windows_.data() + sample * regions;
    bool moved[JointList::kCapacity];
    bool any = false, any_used = false, invalid = false;
    for (int64_t m = 0; m < regions; m++) {
      const Window w = region_window(pool, pose(stage_ - 1, sample), 0, m);
      moved[m] = stage_ == 1 || pool.align || !(w == known[m]);
      known[m] = w;
      any |= moved[m];
      if (!is_used_[m]) continue;
      any_used |= moved[m];
      invalid |= is_invalid(w);
    }
    p_.stages_run[first_ + sample] += any;
    if (invalid)
      std::fill_n(pose(stage_, sample), pose_size(), std::numeric_limits<float>::quiet_NaN());
    else if (!any_used)
      std::copy_n(pose(stage_ - 1, sample), pose_size(), pose(stage_, sample));
    else
      add_work(sample, moved);
  }

  void add_work(int64_t sample, const bool* moved) {  // moved: [M]
    float* finger_hidden = finger_hidden_ + sample * layout_.finger_hidden;
    for (int64_t m = 0; m < p_.pool.joints.count; m++) {
      if (!moved[m] || !is_used_[m]) continue;
      float* hidden = region_hidden(sample, m);
      regions_.add_product(m, pooled(moved_.size()), hidden);
      regions_.outputs[m].push_back({hidden, hidden});
      moved_.push_back({sample, m});
    }
    for (int64_t f = 0; f < p_.tree.fingers; f++) {
      const int64_t first = f * p_.tree.members;
      float* partials = finger_partials_ + sample * layout_.finger_partials + first * p_.finger.rows;
      bool any = false;
      for (int64_t k = 0; k < p_.tree.members; k++) {
        const int64_t m = p_.tree.region[first + k];
        if (!moved[m]) continue;
        fingers_.add_product(first + k, region_hidden(sample, m), partials + k * p_.finger.rows);
        any = true;
      }
      if (any) fingers_.outputs[f].push_back({partials, finger_hidden + f * p_.finger.rows});
    }
    joints_.add_product(0, finger_hidden, pose(stage_, sample));
    joints_.outputs[0].push_back({pose(stage_, sample), pose(stage_, sample)});
  }

  float* pooled(int64_t i) const { return pooled_ + i * layout_.region; }
  float* region_hidden(int64_t sample, int64_t m) const {
    return region_hidden_ + sample * layout_.region_hidden + m * layout_.hidden_size;
  }

  void pool_moved() const {
    const RegionPool& pool = p_.pool;
    parallel_ranges(static_cast<int64_t>(moved_.size()), 4, [&](int64_t begin, int64_t end) {
      AlignTaps<float> taps;
      for (int64_t i = begin; i < end; i++) {
        const auto [sample, m] = moved_[i];
        const float* map = p_.features + (first_ + sample) * p_.strides.sample;
        if (pool.align) {
          taps.update(pool, pose(stage_ - 1, sample) + joint_offset(pool, 0, m));
          align_region(pool, p_.strides, map, taps, pooled(i));
        } else {
          max_region(pool, p_.strides, map, windows_[sample * pool.joints.count + m], pooled(i));
        }
        if (to_fixed_point_) to_fixed_point_(pooled(i), p_.region.depth);
      }
    });
  }

  // Computes the work list of a layer.
  void run_layer(const HeadLayer& layer, const WorkList& work, bool relu) {
    active_.clear();
    for (int64_t g = 0; g < layer.groups; g++)
      if (!work.outputs[g].empty()) active_.push_back(g);
    const int64_t row_bytes = std::max<int64_t>(layer.depth * weight_size(), 1);
    const int64_t rows = std::max<int64_t>(kUnitBytes / row_bytes / kRowMultiple, 1) * kRowMultiple;
    const int64_t groups = static_cast<int64_t>(active_.size()), blocks = (layer.rows + rows - 1) / rows;
    // Group by group, so that the inputs stay in the cache.
    units_.run(groups * blocks, [&](int64_t unit) {
      const int64_t group = active_[unit / blocks], first = unit % blocks * rows;
      const int64_t last = std::min(first + rows, layer.rows);
      for (int64_t k = 0; k < work.parts; k++) multiply(layer, work, group, k, first, last);
      for (const WorkList::Output& output : work.outputs[group])
        finish(layer, group, work.parts, output, first, last, relu);
    });
  }

  int64_t weight_size() const {
    return visit_weights(p_.weight_dtype,
                         [](auto type) { return static_cast<int64_t>(sizeof(typename decltype(type)::type)); });
  }

  // Multiplies rows first to last (half open) of a group by one part of the inputs.
  void multiply(const HeadLayer& layer, const WorkList& work, int64_t group, int64_t part, int64_t first,
                int64_t last) const {
    const auto& [input, sums] = work.part[group * work.parts + part];
    if (input.empty()) return;
    const int64_t depth = layer.depth / work.parts;
    const int64_t offset = group * layer.rows * layer.depth + part * depth;
    const bool fixed_point = fixed_point_rows_ && &layer != &p_.joint;  // the last layer is too small to pay
    (fixed_point ? fixed_point_rows_ : dense_rows_)(
        {static_cast<const char*>(layer.weight) + offset * weight_size(), layer.depth, p_.weight_dtype, depth,
         whole_depth_ ? depth : kPartDepth, static_cast<int64_t>(input.size()), input.data(), sums.data()},
        first, last);
  }

  static void finish(const HeadLayer& layer, int64_t group, int64_t parts, const WorkList::Output& output,
                     int64_t first, int64_t last, bool relu) {
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

  const CascadeRefine& p_;
  const Layout layout_;
  void (*dense_rows_)(const Dense&, int64_t, int64_t) = nullptr;
  void (*to_fixed_point_)(float*, int64_t) = nullptr;  // null: inputs stay in float32
  void (*fixed_point_rows_)(const Dense&, int64_t, int64_t) = nullptr;
  const bool whole_depth_ = l2_feeds_fma_units();
  int64_t first_ = 0, stage_ = 0;
  std::vector<Window> windows_;  // [samples, M]: of the previous stage
  std::vector<bool> is_used_;    // [M]: feeds a finger
  std::vector<MovedRegion> moved_;
  WorkList regions_, fingers_, joints_;
  std::vector<int64_t> active_;
  WorkStealingRange units_;
  float *pooled_, *region_hidden_, *finger_partials_, *finger_hidden_;
};

}  // namespace

int64_t scratch_bytes(const CascadeRefine& p, Queue) {
  return Layout(p).floats(p) * static_cast<int64_t>(sizeof(float));
}

void run(const CascadeRefine& p, Queue) {
  Cascade cascade(p);
  for (int64_t first = 0; first < p.pool.batch; first += kSamplesAtOnce)
    cascade.refine(first, std::min(kSamplesAtOnce, p.pool.batch - first));
}

}  // namespace poseren::cpu
