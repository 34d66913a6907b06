// SPDX-License-Identifier: MIT
#include "core/depth_crop_backward.h"

#include <algorithm>

#include "core/kernels.h"
#include "cpu/parallel.h"

namespace poseren::cpu {
namespace {

// Adds the gradient of each output pixel, in row-major order, to the depths that it reads: the order of core's gather.
template <class T, class G>
void scatter_sample(const CropSource<T>& source, const CropGeometry& g, const G* grad, float* depth_grad) {
  const int taps = g.nearest ? 1 : 2;
  for (int64_t row = 0; row < g.size; row++)
    for (int64_t column = 0; column < g.size; column++) {
      const FramePoint point = frame_point(source, g, row, column);
      const float gradient = pixel_gradient(source, point, g.nearest, to_float(grad[row * g.size + column]));
      for (int32_t y = point.y.index; y < point.y.index + taps; y++)
        for (int32_t x = point.x.index; x < point.x.index + taps; x++) {
          const float weight = cell_weight(point.y, y, g.nearest) * cell_weight(point.x, x, g.nearest);
          if (weight != 0 && source.depends(x, y)) depth_grad[y * source.width + x] += weight * gradient;
        }
    }
}

}  // namespace

void run(const DepthCropBackward& p, Queue) {
  const CropGeometry& g = p.geometry;
  const int64_t pixels = p.depth.height * p.depth.width;
  for_each(p.depth.batch, 1, [&](int64_t sample) {
    float* depth_grad = p.depth_grad + sample * pixels;
    std::fill_n(depth_grad, pixels, 0.f);
    visit_depth(p.depth.dtype, [&]<class T>(Type<T>) {
      visit_crop(p.grad_dtype, [&]<class G>(Type<G>) {
        const CropSource<T> source = crop_source<T>(p.depth, g, sample);
        const G* grad = static_cast<const G*>(p.grad) + sample * g.size * g.size;
        if (source.view.usable) scatter_sample(source, g, grad, depth_grad);
      });
    });
  });
}

}  // namespace poseren::cpu
