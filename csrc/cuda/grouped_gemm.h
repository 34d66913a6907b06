// SPDX-License-Identifier: MIT
// Grouped GEMM: each group multiplies its weights by the samples in its work list.
//
// The length of a work list is in device memory, so the grid covers all samples and blocks past the end return at once.
// A block multiplies a tile of samples by a tile of weight rows. A sum does not depend on the other samples and rows.
#pragma once

#include "cuda/tensor_core.h"
#include "cuda/warp.h"

namespace poseren::cuda {

struct GemmTile {
  static constexpr int kSamples = 64, kRows = 64, kDepth = 32;  // small, so that several blocks per SM hide latency
  static constexpr int kStride = kDepth + 8;                    // elements; the padding of 8 avoids bank conflicts
  static constexpr int kThreads = 128;
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ < 900
  static constexpr int kBlocks = 3;  // per SM; with four, older GPUs run out of registers
#else
  static constexpr int kBlocks = 4;
#endif
  static constexpr int kWarpSamples = 32, kWarpRows = 32;  // the part of the tile that a warp computes
  static constexpr int kUnit = 8;                          // elements that a thread loads at a time
  static constexpr int kUnitsOfLine = kDepth / kUnit;
  static constexpr int kPartSize = kSamples * kStride;  // elements per bfloat16 part of a tile
  static constexpr int kResultStride = kFragment + 4;   // floats

  template <class W>
  static constexpr size_t shared_bytes() {
    return sizeof(BFloat16) * kPartSize * (kParts + kWeightParts<W>);
  }
};
static_assert(GemmTile::kSamples == GemmTile::kRows);

// One tile, computed by one block. Problem describes the operands:
//   count(group)             the number of samples (device memory)
//   input(group, i, part)    [depth], one bfloat16 part of the i-th sample's input, 16-byte aligned
//   weight(group)            [rows, depth] of W
//   rows(), depth(), is_packed()   is_packed: 8 weights of a row can be read by one aligned load
//   begin(group), end(group) the range of the depth that the group sums; begin is a multiple of kUnit
//   store(group, i, row, sum)
template <class W>
struct alignas(sizeof(W) == 1 ? 8 : 16) WeightUnit {
  W value[GemmTile::kUnit];
};

template <class W, class Problem>
class Gemm {
  using T = GemmTile;
  static constexpr int kWeightPartsHere = kWeightParts<W>;
  static constexpr int kInputUnits = T::kSamples * T::kUnitsOfLine * kParts / T::kThreads;
  static constexpr int kWeightUnits = T::kRows * T::kUnitsOfLine / T::kThreads;

 public:
  __device__ Gemm(const Problem& problem, int group, int sample, int64_t row, BFloat16* shared)
      : p_(problem),
        group_(group),
        sample_(sample),
        row_(row),
        inputs_(shared),
        weights_(shared + kParts * T::kPartSize),
        count_(problem.count(group)),
        begin_(problem.begin(group)),
        end_(problem.end(group)) {}

  __device__ void run() {
    if (sample_ >= count_) return;
#pragma unroll
    for (auto& line : sums_)
      for (auto& sum : line) wmma::fill_fragment(sum, 0.0f);
    for (int64_t k = begin_; k < end_; k += T::kDepth) {
      load(k);  // other blocks of the SM multiply during the loads
      put();
      __syncthreads();
      multiply();
      __syncthreads();
    }
    store();
  }

 private:
  static constexpr int kSampleFragments = T::kWarpSamples / kFragment, kRowFragments = T::kWarpRows / kFragment;

  __device__ static int thread() { return static_cast<int>(threadIdx.x); }

  // ---- global memory to registers, with zeros beyond the last sample, row and depth
  __device__ void load(int64_t k) {
#pragma unroll
    for (int u = 0; u < kInputUnits; u++) {
      const int unit = u * T::kThreads + thread(), line = unit / T::kUnitsOfLine % T::kSamples;
      const int part = unit / T::kUnitsOfLine / T::kSamples;
      const int64_t from = k + unit % T::kUnitsOfLine * T::kUnit;
      const bool inside = sample_ + line < count_ && from < end_;
      input_units_[u] = inside ? load_unit(p_.input(group_, sample_ + line, part) + from, from) : Pack<BFloat16>{};
    }
#pragma unroll
    for (int u = 0; u < kWeightUnits; u++) {
      const int unit = u * T::kThreads + thread(), line = unit / T::kUnitsOfLine;
      const int64_t from = k + unit % T::kUnitsOfLine * T::kUnit;
      const bool inside = row_ + line < p_.rows() && from < end_;
      weight_units_[u] = load_weights(p_.weight(group_) + (row_ + line) * p_.depth() + from, from, inside);
    }
  }

  __device__ Pack<BFloat16> load_unit(const BFloat16* address, int64_t from) const {
    if (from + T::kUnit <= end_) return load_pack(address);
    Pack<BFloat16> unit{};
    for (int i = 0; i < T::kUnit; i++)
      if (from + i < end_) unit.value[i] = address[i];
    return unit;
  }

  __device__ WeightUnit<W> load_weights(const W* address, int64_t from, bool inside) const {
    struct Two {
      uint4 words[2];
    };
    using Words = std::conditional_t<sizeof(W) == 1, uint2, std::conditional_t<sizeof(W) == 2, uint4, Two>>;
    if (inside && p_.is_packed() && from + T::kUnit <= end_)
      return bit_cast<WeightUnit<W>>(*reinterpret_cast<const Words*>(address));
    WeightUnit<W> unit{};
    for (int i = 0; i < T::kUnit; i++)
      if (inside && from + i < end_) unit.value[i] = address[i];
    return unit;
  }

  // ---- registers to shared memory; splits weights into bfloat16 parts
  __device__ void put() {
#pragma unroll
    for (int u = 0; u < kInputUnits; u++) {
      const int unit = u * T::kThreads + thread();
      store_pack(inputs_ + place(unit), input_units_[u]);
    }
#pragma unroll
    for (int u = 0; u < kWeightUnits; u++) {
      const int unit = u * T::kThreads + thread();
      Pack<BFloat16> parts[kWeightPartsHere];
#pragma unroll
      for (int i = 0; i < T::kUnit; i++) {
        BFloat16 split_weight[kWeightPartsHere];
        split(to_float(weight_units_[u].value[i]), split_weight);
        for (int part = 0; part < kWeightPartsHere; part++) parts[part].value[i] = split_weight[part];
      }
      for (int part = 0; part < kWeightPartsHere; part++)
        store_pack(weights_ + part * T::kPartSize + place(unit), parts[part]);
    }
  }
  // Units are numbered along the depth, then over the lines, then over the parts.
  __device__ static int place(int unit) {
    return unit / T::kUnitsOfLine * T::kStride + unit % T::kUnitsOfLine * T::kUnit;
  }

  // ---- shared memory to the accumulators
  __device__ void multiply() {
    if (row_ + warp_row() >= p_.rows()) return;
    const BFloat16* const inputs = inputs_ + warp_sample() * T::kStride;
    const BFloat16* const weights = weights_ + warp_row() * T::kStride;
#pragma unroll 1
    for (int k = 0; k < T::kDepth; k += kFragment) {
      MatrixB b[kWeightPartsHere][kRowFragments];
#pragma unroll
      for (int part = 0; part < kWeightPartsHere; part++)
        for (int j = 0; j < kRowFragments; j++)
          load_matrix(b[part][j], weights + part * T::kPartSize + j * kFragment * T::kStride + k, T::kStride);
#pragma unroll
      for (int i = 0; i < kSampleFragments; i++)
        if (has_samples(i)) add_products(i, inputs + i * kFragment * T::kStride + k, b);
    }
  }
  // Tensor-core accumulation truncates, so accumulate 16 products per MMA and add partial sums in fp32.
  __device__ void add_products(int i, const BFloat16* input, const MatrixB (&b)[kWeightPartsHere][kRowFragments]) {
    MatrixC products[kRowFragments];
    for (auto& line : products) wmma::fill_fragment(line, 0.0f);
#pragma unroll
    for (int part = kParts - 1; part >= 0; part--) {
      MatrixA a;
      load_matrix(a, input + part * T::kPartSize, T::kStride);
#pragma unroll
      for (int weight_part = kWeightPartsHere - 1; weight_part >= 0; weight_part--)
        for (int j = 0; j < kRowFragments; j++)
          if (counts(part, weight_part)) wmma::mma_sync(products[j], a, b[weight_part][j], products[j]);
    }
#pragma unroll
    for (int j = 0; j < kRowFragments; j++)
#pragma unroll
      for (int e = 0; e < MatrixC::num_elements; e++) sums_[i][j].x[e] += products[j].x[e];
  }

  // ---- accumulators to Problem::store, through shared memory, because the layout of fragments is unspecified
  __device__ void store() {
    float* const result = reinterpret_cast<float*>(inputs_) + thread() / kWarp * kFragment * T::kResultStride;
#pragma unroll
    for (int i = 0; i < kSampleFragments; i++)
#pragma unroll
      for (int j = 0; j < kRowFragments; j++) {
        if (!has_samples(i)) continue;
        wmma::store_matrix_sync(result, sums_[i][j], T::kResultStride, wmma::mem_row_major);
        __syncwarp();
        store_fragment(result, sample_ + warp_sample() + i * kFragment, row_ + warp_row() + j * kFragment);
        __syncwarp();
      }
  }
  __device__ void store_fragment(const float* result, int sample, int64_t row) const {
    for (int e = thread() % kWarp; e < kFragment * kFragment; e += kWarp) {
      const int i = e / kFragment, r = e % kFragment;
      if (sample + i < count_ && row + r < p_.rows())
        p_.store(group_, sample + i, row + r, result[i * T::kResultStride + r]);
    }
  }

  __device__ bool has_samples(int fragment) const {  // the same for the whole warp
    return sample_ + warp_sample() + fragment * kFragment < count_;
  }
  __device__ static int warp_sample() { return thread() / kWarp / (T::kRows / T::kWarpRows) * T::kWarpSamples; }
  __device__ static int warp_row() { return thread() / kWarp % (T::kRows / T::kWarpRows) * T::kWarpRows; }

  const Problem& p_;
  int group_, sample_;
  int64_t row_;
  BFloat16 *inputs_, *weights_;
  int count_;
  int64_t begin_, end_;
  Pack<BFloat16> input_units_[kInputUnits];
  WeightUnit<W> weight_units_[kWeightUnits];
  MatrixC sums_[kSampleFragments][kRowFragments];
};

// Grid: x sample tiles (neighbours read the same weights at the same time), y row tiles, z groups.
template <class W, class Problem>
__global__ void __launch_bounds__(GemmTile::kThreads, GemmTile::kBlocks) grouped_gemm(const Problem problem) {
  DYNAMIC_SHARED(BFloat16, shared);
  const int sample = static_cast<int>(blockIdx.x) * GemmTile::kSamples;
  Gemm<W, Problem>(problem, static_cast<int>(blockIdx.z), sample, int64_t{blockIdx.y} * GemmTile::kRows, shared).run();
}

}  // namespace poseren::cuda
