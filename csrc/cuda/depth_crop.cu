// SPDX-License-Identifier: MIT
// One block per tile of a crop. The view of the sample and the coordinates of the tile are computed once per block.
#include "core/kernels.h"

#include "core/depth_crop_backward.h"
#include "cuda/launch.h"

namespace poseren::cuda {
namespace {

constexpr int kTile = 32;  // output pixels along each side
constexpr int kRows = 8;   // rows at a time

template <class T, class Out>
__global__ void __launch_bounds__(kTile* kRows) depth_crop(const DepthCrop p) {
  const CropGeometry& g = p.geometry;
  SHARED(shared_source, CropSource<T>);
  SHARED(xs, double[kTile]);
  SHARED(ys, double[kTile]);
  const int64_t tiles = (g.size + kTile - 1) / kTile;
  const int64_t sample = blockIdx.x / (tiles * tiles), tile = blockIdx.x % (tiles * tiles);
  const int64_t top = tile / tiles * kTile, left = tile % tiles * kTile;
  const int thread = static_cast<int>(threadIdx.y * kTile + threadIdx.x);
  if (thread < kTile) xs[thread] = crop_coordinate(left + thread, g.size);
  if (thread >= kTile && thread < 2 * kTile) ys[thread - kTile] = crop_coordinate(top + thread - kTile, g.size);
  if (thread == 2 * kTile) shared_source = crop_source<T>(p.depth, g, sample);
  __syncthreads();

  const CropSource<T> source = shared_source;
  const int64_t column = left + threadIdx.x;
  Out* const crop = static_cast<Out*>(p.crop) + sample * g.size * g.size;
  for (int y = static_cast<int>(threadIdx.y); y < kTile; y += kRows) {
    const int64_t row = top + y;
    if (column < g.size && row < g.size)
      crop[row * g.size + column] = from_float<Out>(crop_value(source, xs[threadIdx.x], ys[y], g.nearest));
  }
}

// One thread per pixel of a frame, which gathers the gradient of its stored depth.
constexpr int kGradThreads = 256;

template <class T, class G>
__global__ void __launch_bounds__(kGradThreads) depth_crop_backward(const DepthCropBackward p) {
  const CropGeometry& g = p.geometry;
  SHARED(shared_source, CropSource<T>);
  const int64_t pixels = p.depth.height * p.depth.width, chunks = (pixels + kGradThreads - 1) / kGradThreads;
  const int64_t sample = blockIdx.x / chunks, pixel = blockIdx.x % chunks * kGradThreads + threadIdx.x;
  if (threadIdx.x == 0) shared_source = crop_source<T>(p.depth, g, sample);
  __syncthreads();

  const CropSource<T> source = shared_source;
  if (pixel >= pixels) return;
  const G* grad = static_cast<const G*>(p.grad) + sample * g.size * g.size;
  const int32_t row = static_cast<int32_t>(pixel / p.depth.width), column = static_cast<int32_t>(pixel % p.depth.width);
  p.depth_grad[sample * pixels + pixel] = source.view.usable ? depth_gradient(source, g, grad, row, column) : 0.0f;
}

}  // namespace

void run(const DepthCrop& p, Queue queue) {
  const int64_t tiles = (p.geometry.size + kTile - 1) / kTile;
  const Launch at{.grid = grid_of(p.depth.batch * tiles * tiles), .block = dim3(kTile, kRows), .stream = queue.stream};
  visit_depth(p.depth.dtype, [&]<class T>(Type<T>) {
    visit_crop(p.crop_dtype, [&]<class Out>(Type<Out>) { launch<depth_crop<T, Out>>(at, p); });
  });
}

void run(const DepthCropBackward& p, Queue queue) {
  const int64_t pixels = p.depth.height * p.depth.width;
  const Launch at{.grid = grid_of(p.depth.batch * ((pixels + kGradThreads - 1) / kGradThreads)),
                  .block = kGradThreads,
                  .stream = queue.stream};
  visit_depth(p.depth.dtype, [&]<class T>(Type<T>) {
    visit_crop(p.grad_dtype, [&]<class G>(Type<G>) { launch<depth_crop_backward<T, G>>(at, p); });
  });
}

}  // namespace poseren::cuda
