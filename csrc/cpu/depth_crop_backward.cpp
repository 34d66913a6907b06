// SPDX-License-Identifier: MIT
#include "core/depth_crop_backward.h"

#include <algorithm>

#include "cpu/depth_crop.h"
#include "cpu/parallel.h"

namespace poseren::cpu {

namespace {

// Adds to each depth what the output pixels hand to it, output rows first: the order of core's gather.
template <class T, class G>
void scatter_sample(const CropSource<T>& source, const CropGeometry& g, const G* grad, float* depth_grad) {
  const int taps = g.nearest ? 1 : 2;
  for (int64_t row = 0; row < g.size; row++)
    for (int64_t column = 0; column < g.size; column++) {
      const Look look = look_of_pixel(source, g, row, column);
      const float gradient = pixel_gradient(source, look, g.nearest, to_float(grad[row * g.size + column]));
      for (int32_t y = look.y.index; y < look.y.index + taps; y++)
        for (int32_t x = look.x.index; x < look.x.index + taps; x++) {
          const float weight = cell_weight(look.y, y, g.nearest) * cell_weight(look.x, x, g.nearest);
          if (weight != 0 && source.follows(x, y)) depth_grad[y * source.width + x] += weight * gradient;
        }
    }
}

}  // namespace

void run(const DepthCropBackward& body, Queue) {
  const CropGeometry& g = body.geometry;
  const int64_t pixels = body.depth.height * body.depth.width;
  for_each(body.depth.batch, 1, [&](int64_t sample) {
    float* depth_grad = body.depth_grad + sample * pixels;
    std::fill_n(depth_grad, pixels, 0.f);
    visit_depth(body.depth.dtype, [&]<class T>(Type<T>) {
      visit_crop(body.grad_dtype, [&]<class G>(Type<G>) {
        const CropSource<T> source = crop_source<T>(body.depth, g, sample);
        const G* grad = static_cast<const G*>(body.grad) + sample * g.size * g.size;
        if (source.view.usable) scatter_sample(source, g, grad, depth_grad);
      });
    });
  });
}

}  // namespace poseren::cpu
