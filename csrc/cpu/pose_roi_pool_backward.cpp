// SPDX-License-Identifier: MIT
// Gradients of pose_roi_pool. A thread owns whole planes of the features' gradient, or whole samples of the pose's, and
// goes through what falls on them in one order: the same bits for any number of threads.
#include "cpu/isa/windows.h"
#include "cpu/parallel.h"
#include "cpu/pool_region.h"
#include "cpu/pose_roi_pool.h"

namespace poseren::cpu {
namespace {

constexpr int64_t kPlanesPerThread = 16;

// The gradient of one plane, summed in full precision: dense, whatever the tensor's layout.
template <class T>
struct PlaneSum {
  std::vector<Accumulator<T>> sum;  // [H, W]

  void clear(const RegionPool& p) { sum.assign(p.height * p.width, 0); }

  void write(const RegionPool& p, const MapStrides& s, T* plane) const {
    const Accumulator<T>* value = sum.data();
    for (int64_t y = 0; y < p.height; y++)
      for (int64_t x = 0; x < p.width; x++) store(plane + y * s.row + x * s.column, *value++);
  }
};

template <class T>
void add_max(const RegionPool& p, const MapStrides& s, const T* features, const Window& w, const T* grad,
             PlaneSum<T>& plane) {  // features: [H, W], grad: [P, P]
  for (int64_t by = 0; by < p.bins; by++) {
    const CellRange rows = bin_span(w.y0, w.y1, by, p.bins, p.height);
    for (int64_t bx = 0; bx < p.bins; bx++, grad++) {
      const MapCell cell = max_cell(features, s, rows, bin_span(w.x0, w.x1, bx, p.bins, p.width));
      if (cell.row >= 0) plane.sum[cell.row * p.width + cell.column] += load(grad);
    }
  }
}

template <class T>
void add_align(const RegionPool& p, AlignTaps<T>& taps, const T* grad, PlaneSum<T>& plane) {  // grad: [P, P]
  using Sum = Accumulator<T>;
  const Sum share = Sum(1) / static_cast<Sum>(p.samples * p.samples);
  std::vector<Sum>& line = taps.line;
  for (int64_t by = 0; by < p.bins; by++) {
    for (int64_t column = taps.x.low; column < taps.x.high; column++) line[column] = 0;
    for (int64_t i = 0; i < p.bins * p.samples; i++) {
      const auto& tap = taps.x.taps[i];
      if (!tap.inside) continue;
      const Sum value = load(grad + by * p.bins + i / p.samples) * share;
      line[tap.low] += (1 - tap.weight) * value;
      line[tap.high] += tap.weight * value;
    }
    for (int64_t i = by * p.samples; i < (by + 1) * p.samples; i++) {
      const auto& tap = taps.y.taps[i];
      if (!tap.inside) continue;
      Sum* low = plane.sum.data() + tap.low * p.width;
      Sum* high = plane.sum.data() + tap.high * p.width;
      for (int64_t column = taps.x.low; column < taps.x.high; column++) {
        low[column] += (1 - tap.weight) * line[column];
        high[column] += tap.weight * line[column];
      }
    }
  }
}

// The places of a sample's windows that lie on the map, all of which are crops.
void list_crops(const RegionPool& p, const std::vector<Window>& windows, std::vector<WindowGrad>& crops) {
  crops.clear();
  for (int64_t m = 0; m < p.joints.count; m++) {
    const Window& w = windows[m];
    const int64_t rows = std::min<int64_t>(p.bins, p.height - w.y0);
    const int64_t columns = std::min<int64_t>(p.bins, p.width - w.x0);
    if (is_nowhere(w) || rows <= 0 || columns <= 0) continue;
    crops.push_back(
        {m * p.channels * p.bins * p.bins, w.y0, w.x0, static_cast<int32_t>(rows), static_cast<int32_t>(columns)});
  }
}

// Into planes of a sample from channel c on, all of whose windows are crops; returns how many were written, up to
// `most`.
template <class T>
int64_t write_crops(const PoseRoiPoolFeatureGrad& op, const std::vector<WindowGrad>& windows, const T* grad,
                    int64_t most, T* out, PlaneSum<T>& plane) {
  const RegionPool& p = op.pool;
  const MapStrides& s = op.grad_strides;
  void (*sum)(const WindowGrads&, int64_t, const T*, Accumulator<T>*) = nullptr;
  on_best_isa([&]<class Isa>(Isa) { sum = sum_windows<Isa, T>; });
  const WindowGrads all{windows.data(), static_cast<int64_t>(windows.size()), p.bins, p.height, p.width};
  if constexpr (std::is_same_v<T, Accumulator<T>>) {
    if (s.column == 1 && s.row == p.width && s.channel == p.height * p.width) {
      sum(all, most, grad, out);
      return most;
    }
  }
  plane.clear(p);
  sum(all, 1, grad, plane.sum.data());
  plane.write(p, s, out);
  return 1;
}

template <class T, class Position>
void feature_grad(const PoseRoiPoolFeatureGrad& op) {
  const RegionPool& p = op.pool;
  const int64_t bins = p.bins * p.bins, region = p.channels * bins;
  parallel_ranges(p.batch * p.channels, kPlanesPerThread, [&](int64_t begin, int64_t end) {
    SampleRegions<T> regions;
    std::vector<WindowGrad> crops;
    PlaneSum<T> plane;
    for (int64_t i = begin; i < end;) {
      const int64_t sample = i / p.channels, c = i % p.channels;
      const T* features = static_cast<const T*>(op.features) + sample * op.strides.sample + c * op.strides.channel;
      const T* grad = static_cast<const T*>(op.grad) + sample * p.joints.count * region + c * bins;
      T* out = static_cast<T*>(op.feature_grad) + sample * op.grad_strides.sample + c * op.grad_strides.channel;
      if (regions.look(p, static_cast<const Position*>(op.pose), sample) && regions.crops)
        list_crops(p, regions.windows, crops);
      if (regions.crops) {
        i += write_crops(op, crops, grad, std::min(end - i, p.channels - c), out, plane);
        continue;
      }
      plane.clear(p);
      for (int64_t m = 0; m < p.joints.count; m++) {
        if (is_nowhere(regions.windows[m])) continue;
        if (p.align)
          add_align(p, regions.taps[m], grad + m * region, plane);
        else
          add_max(p, op.strides, features, regions.windows[m], grad + m * region, plane);
      }
      plane.write(p, op.grad_strides, out);
      i++;
    }
  });
}

struct Slope {
  double x, y;  // per cell that the samples move
};

// Bin row `by` of a plane as a line: how the sum over its samples rises as they move down.
template <class T>
void rise_rows(const RegionPool& p, const MapStrides& s, const T* plane, const AlignTaps<T>& taps, int64_t by,
               std::vector<Accumulator<T>>& rise) {
  for (int64_t column = taps.x.low; column < taps.x.high; column++) rise[column] = 0;
  for (int64_t i = by * p.samples; i < (by + 1) * p.samples; i++) {
    const auto& tap = taps.y.taps[i];
    if (!tap.moves) continue;
    const T* low = plane + tap.low * s.row;
    const T* high = plane + tap.high * s.row;
    for (int64_t column = taps.x.low; column < taps.x.high; column++)
      rise[column] += load(high + column * s.column) - load(low + column * s.column);
  }
}

// How a weighted sum of a region's bins, weights grad [C, P, P], changes when the region moves.
template <class T>
Slope region_slope(const RegionPool& p, const MapStrides& s, const T* map, AlignTaps<T>& taps, const T* grad) {
  std::vector<Accumulator<T>> rise(p.width);
  Slope slope{0, 0};
  for (int64_t c = 0; c < p.channels; c++, map += s.channel) {
    for (int64_t by = 0; by < p.bins; by++, grad += p.bins) {
      taps.blend_rows(p, s, map, by);
      rise_rows(p, s, map, taps, by, rise);
      for (int64_t i = 0; i < p.bins * p.samples; i++) {
        const auto& tap = taps.x.taps[i];
        if (!tap.inside) continue;
        const double g = load(grad + i / p.samples);
        if (tap.moves) slope.x += g * (taps.line[tap.high] - taps.line[tap.low]);
        slope.y += g * ((1 - tap.weight) * rise[tap.low] + tap.weight * rise[tap.high]);
      }
    }
  }
  return slope;
}

template <class T, class Position>
void pose_grad(const PoseRoiPoolPoseGrad& op) {
  const RegionPool& p = op.pool;
  const T* features = static_cast<const T*>(op.features);
  const T* grad = static_cast<const T*>(op.grad);
  const Position* pose = static_cast<const Position*>(op.pose);
  const double unit = static_cast<double>(cells_per_unit(p.geometry)) / static_cast<double>(p.samples * p.samples);
  parallel_ranges(p.batch, 1, [&](int64_t begin, int64_t end) {
    SampleRegions<T> regions;
    std::vector<Slope> joint(p.num_joints);
    for (int64_t sample = begin; sample < end; sample++) {
      regions.look(p, pose, sample);
      joint.assign(p.num_joints, {0, 0});
      for (int64_t m = 0; m < p.joints.count; m++) {
        if (is_nowhere(regions.windows[m])) continue;
        const T* region = grad + (sample * p.joints.count + m) * p.channels * p.bins * p.bins;
        const Slope slope = region_slope(p, op.strides, features + sample * op.strides.sample, regions.taps[m], region);
        joint[p.joints.joint[m]].x += slope.x;
        joint[p.joints.joint[m]].y += slope.y;
      }
      Position* out = static_cast<Position*>(op.pose_grad) + sample * p.num_joints * p.num_axes;
      std::fill_n(out, p.num_joints * p.num_axes, Position(0));
      for (int64_t j = 0; j < p.num_joints; j++, out += p.num_axes) {
        out[0] = static_cast<Position>(joint[j].x * unit);
        out[1] = static_cast<Position>(joint[j].y * unit);
      }
    }
  });
}

template <class Op, class Call>
void visit_types(const Op& op, const Call& call) {
  visit_features(op.pool.dtype, [&](auto type) {
    using T = typename decltype(type)::type;
    op.pool.pose_dtype == DType::f64 ? call(Type<T>{}, Type<double>{}) : call(Type<T>{}, Type<float>{});
  });
}

}  // namespace

void run(const PoseRoiPoolFeatureGrad& op, Queue) {
  visit_types(op, [&](auto t, auto position) {
    feature_grad<typename decltype(t)::type, typename decltype(position)::type>(op);
  });
}

void run(const PoseRoiPoolPoseGrad& op, Queue) {
  visit_types(
      op, [&](auto t, auto position) { pose_grad<typename decltype(t)::type, typename decltype(position)::type>(op); });
}

}  // namespace poseren::cpu
