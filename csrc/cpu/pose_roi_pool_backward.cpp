// SPDX-License-Identifier: MIT
// Gradients of pose_roi_pool. A thread owns whole planes of the feature gradient or whole samples of the pose gradient,
// and sums in one order: the same bits for any number of threads.
#include "core/kernels.h"
#include "cpu/isa/kernels.h"
#include "cpu/parallel.h"
#include "cpu/pool_region.h"

namespace poseren::cpu {
namespace {

constexpr int64_t kPlanesPerThread = 16, kPlanesAtOnce = 64;

// The gradient of some planes, summed in the accumulator type. Dense, whatever the layout of the tensor.
template <class T>
struct PlaneSum {
  std::vector<Accumulator<T>> sum;  // [channels, H, W]

  void clear(const RegionPool& p, int64_t channels = 1) { sum.assign(channels * p.height * p.width, 0); }

  void write(const RegionPool& p, const MapStrides& s, T* planes, int64_t channels = 1) const {
    const Accumulator<T>* value = sum.data();
    for (int64_t c = 0; c < channels; c++)
      for (int64_t y = 0; y < p.height; y++)
        for (int64_t x = 0; x < p.width; x++) store(planes + c * s.channel + y * s.row + x * s.column, *value++);
  }
};

template <class T>
void add_max(const RegionPool& p, const MapStrides& s, const T* features, const Window& w, const T* grad,
             PlaneSum<T>& plane) {  // features: [H, W], grad: [P, P]
  for (int64_t by = 0; by < p.bins; by++) {
    const Range rows = bin_range(w.y0, w.y1, by, p.bins, p.height);
    for (int64_t bx = 0; bx < p.bins; bx++, grad++) {
      const MapCell cell = max_cell(features, s, rows, bin_range(w.x0, w.x1, bx, p.bins, p.width));
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

// Lists the windows of a sample that lie on the map. All must be crops.
void list_crops(const RegionPool& p, const std::vector<Window>& windows, std::vector<WindowGrad>& crops) {
  crops.clear();
  for (int64_t m = 0; m < p.joints.count; m++) {
    const Window& w = windows[m];
    const int64_t rows = std::min<int64_t>(p.bins, p.height - w.y0);
    const int64_t columns = std::min<int64_t>(p.bins, p.width - w.x0);
    if (is_invalid(w) || rows <= 0 || columns <= 0) continue;
    crops.push_back(
        {m * p.channels * p.bins * p.bins, w.y0, w.x0, static_cast<int32_t>(rows), static_cast<int32_t>(columns)});
  }
}

// Writes the gradient of up to `most` planes of a sample whose windows are all crops. Returns how many it wrote.
template <class T>
int64_t write_crops(const PoseRoiPoolFeatureGrad& p, const std::vector<WindowGrad>& windows, const T* grad,
                    int64_t most, T* out, PlaneSum<T>& plane) {
  const RegionPool& pool = p.pool;
  const MapStrides& s = p.grad_strides;
  void (*sum)(const WindowGrads&, int64_t, const T*, Accumulator<T>*) = nullptr;
  on_best_isa([&]<class Isa>(Isa) { sum = sum_windows<Isa, T>; });
  const WindowGrads all{windows.data(), static_cast<int64_t>(windows.size()), pool.bins, pool.height, pool.width};
  if constexpr (std::is_same_v<T, Accumulator<T>>) {
    if (s.column == 1 && s.row == pool.width && s.channel == pool.height * pool.width) {
      sum(all, most, grad, out);
      return most;
    }
  }
  const int64_t channels = std::min(most, kPlanesAtOnce);
  plane.clear(pool, channels);
  sum(all, channels, grad, plane.sum.data());
  plane.write(pool, s, out, channels);
  return channels;
}

template <class T, class Position>
void feature_grad(const PoseRoiPoolFeatureGrad& p) {
  const RegionPool& pool = p.pool;
  const int64_t bins = pool.bins * pool.bins, region = pool.channels * bins;
  parallel_ranges(pool.batch * pool.channels, kPlanesPerThread, [&](int64_t begin, int64_t end) {
    SampleRegions<T> regions;
    std::vector<WindowGrad> crops;
    PlaneSum<T> plane;
    for (int64_t i = begin; i < end;) {
      const int64_t sample = i / pool.channels, c = i % pool.channels;
      const T* features = static_cast<const T*>(p.features) + sample * p.strides.sample + c * p.strides.channel;
      const T* grad = static_cast<const T*>(p.grad) + sample * pool.joints.count * region + c * bins;
      T* out = static_cast<T*>(p.feature_grad) + sample * p.grad_strides.sample + c * p.grad_strides.channel;
      if (regions.update(pool, static_cast<const Position*>(p.pose), sample) && regions.crops)
        list_crops(pool, regions.windows, crops);
      if (regions.crops) {
        i += write_crops(p, crops, grad, std::min(end - i, pool.channels - c), out, plane);
        continue;
      }
      plane.clear(pool);
      for (int64_t m = 0; m < pool.joints.count; m++) {
        if (is_invalid(regions.windows[m])) continue;
        if (pool.align)
          add_align(pool, regions.taps[m], grad + m * region, plane);
        else
          add_max(pool, p.strides, features, regions.windows[m], grad + m * region, plane);
      }
      plane.write(pool, p.grad_strides, out);
      i++;
    }
  });
}

// As AlignTaps::blend_rows, but the derivative of the line as the sampling points move down.
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

// The derivative of sum(grad * region) by the position of the region; grad: [C, P, P].
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
void pose_grad(const PoseRoiPoolPoseGrad& p) {
  const RegionPool& pool = p.pool;
  const T* features = static_cast<const T*>(p.features);
  const T* grad = static_cast<const T*>(p.grad);
  const Position* pose = static_cast<const Position*>(p.pose);
  const double unit =
      static_cast<double>(cells_per_unit(pool.geometry)) / static_cast<double>(pool.samples * pool.samples);
  parallel_ranges(pool.batch, 1, [&](int64_t begin, int64_t end) {
    SampleRegions<T> regions;
    std::vector<Slope> joint(pool.num_joints);
    for (int64_t sample = begin; sample < end; sample++) {
      regions.update(pool, pose, sample);
      joint.assign(pool.num_joints, {0, 0});
      for (int64_t m = 0; m < pool.joints.count; m++) {
        if (is_invalid(regions.windows[m])) continue;
        const T* region = grad + (sample * pool.joints.count + m) * pool.channels * pool.bins * pool.bins;
        const Slope slope =
            region_slope(pool, p.strides, features + sample * p.strides.sample, regions.taps[m], region);
        joint[pool.joints.joint[m]].x += slope.x;
        joint[pool.joints.joint[m]].y += slope.y;
      }
      Position* out = static_cast<Position*>(p.pose_grad) + sample * pool.num_joints * pool.num_axes;
      std::fill_n(out, pool.num_joints * pool.num_axes, Position(0));
      for (int64_t j = 0; j < pool.num_joints; j++, out += pool.num_axes) {
        out[0] = static_cast<Position>(joint[j].x * unit);
        out[1] = static_cast<Position>(joint[j].y * unit);
      }
    }
  });
}

}  // namespace

void run(const PoseRoiPoolFeatureGrad& p, Queue) {
  visit_pool(p.pool, [&]<class T, class Position>(Type<T>, Type<Position>) { feature_grad<T, Position>(p); });
}

void run(const PoseRoiPoolPoseGrad& p, Queue) {
  visit_pool(p.pool, [&]<class T, class Position>(Type<T>, Type<Position>) { pose_grad<T, Position>(p); });
}

}  // namespace poseren::cpu
