// SPDX-License-Identifier: MIT
// Streams weights once past all samples that need them. With one sample the weights' way from memory is all that
// counts; with many, the registers hold as many sums as fit, and blocks of samples stay in the second-level cache.
#include "cpu/isa/dense.h"

#include "cpu/isa/lanes.h"

namespace poseren::cpu {
namespace {

constexpr int kRows = 4;  // weight rows at a time: four streams from memory
#if defined(__AVX512F__)
constexpr int kTile = 6;  // samples at a time: 4 x 6 sums, 6 inputs and a weight fill 31 of 32 registers
#else
constexpr int kTile = 3;  // 4 x 3 sums, 3 inputs and a weight: 16 registers
#endif
constexpr int64_t kBlockBytes = 1 << 19;     // of inputs that stay in the cache while all rows go past
constexpr int64_t kPrefetchBytes = 1 << 10;  // ahead of each stream; across pages the hardware does not look

// sums[n][r] = weight[r] . input[n]
template <int kSamples, class W>
void dot_tile(const W* const (&weight)[kRows], const float* const* input, int64_t depth, float (*sums)[kRows]) {
  Lanes sum[kSamples][kRows] = {};
  const auto step = [&](auto&& take, int64_t k) __attribute__((always_inline)) {
    Lanes x[kSamples];
    for (int n = 0; n < kSamples; n++) x[n] = take(input[n] + k);
    for (int r = 0; r < kRows; r++) {
      const Lanes w = take(weight[r] + k);
      for (int n = 0; n < kSamples; n++) sum[n][r] = multiply_add(w, x[n], sum[n][r]);
    }
  };
  const int64_t whole = depth / kLanes * kLanes;
  for (int64_t k = 0; k < whole; k += kLanes) {
    for (int r = 0; r < kRows; r++) __builtin_prefetch(reinterpret_cast<const char*>(weight[r] + k) + kPrefetchBytes);
    step([](const auto* p) __attribute__((always_inline)) { return lanes(p); }, k);
  }
  if (whole < depth)
    step([&](const auto* p) __attribute__((always_inline)) { return first_lanes(p, depth - whole); }, whole);
  for (int n = 0; n < kSamples; n++) {
    const FourLanes four = sum_lanes(sum[n][0], sum[n][1], sum[n][2], sum[n][3]);
    memcpy(sums[n], &four, sizeof(four));
  }
}

template <int kSamples, class W>
void dot_tiles(int64_t samples, const W* const (&weight)[kRows], const float* const* input, int64_t depth,
               float (*sums)[kRows]) {
  if (samples == kSamples)
    dot_tile<kSamples>(weight, input, depth, sums);
  else if constexpr (kSamples > 1)
    dot_tiles<kSamples - 1>(samples, weight, input, depth, sums);
}

template <class W>
void dense(const Dense& layer, int64_t first, int64_t last) {
  const W* weights = static_cast<const W*>(layer.weight);
  const auto finish = [&](float sum, int64_t row) __attribute__((always_inline)) {
    if (layer.scale) sum *= layer.scale[row];
    sum += layer.bias[row];
    return layer.relu && sum < 0 ? 0.0f : sum;  // NaN stays
  };
  int64_t block = kBlockBytes / (layer.depth * static_cast<int64_t>(sizeof(float))) / kTile * kTile;
  if (block < kTile) block = kTile;
  for (int64_t start = 0; start < layer.samples; start += block) {
    const int64_t stop = start + block < layer.samples ? start + block : layer.samples;
    for (int64_t row = first; row < last; row += kRows) {
      const W* weight[kRows];  // beyond the last row: that again, its sums unused
      for (int64_t r = 0; r < kRows; r++) weight[r] = weights + (row + r < last ? row + r : last - 1) * layer.depth;
      for (int64_t n = start; n < stop; n += kTile) {
        const int64_t samples = stop - n < kTile ? stop - n : kTile;
        float sums[kTile][kRows];
        dot_tiles<kTile>(samples, weight, layer.input + n, layer.depth, sums);
        for (int64_t i = 0; i < samples; i++)
          for (int64_t r = 0; r < kRows && row + r < last; r++)
            layer.output[n + i][row + r] = finish(sums[i][r], row + r);
      }
    }
  }
}

}  // namespace

template <>
void dense_rows<POSEREN_ISA>(const Dense& layer, int64_t first, int64_t last) {
  switch (layer.dtype) {
    case DType::bf16:
      return dense<BFloat16>(layer, first, last);
    case DType::i8:
      return dense<int8_t>(layer, first, last);
    default:
      return dense<float>(layer, first, last);
  }
}

}  // namespace poseren::cpu
