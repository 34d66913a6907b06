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
constexpr int64_t kBlockBytes = 1 << 19;  // of inputs that stay in the cache while all rows go past
constexpr int64_t kLineBytes = 64;
constexpr int64_t kNearBytes = 512;  // ahead in each row, for the first-level cache

// The next weight rows, of which a tile brings some to the second-level cache while it computes with these.
struct NextRows {
  const char* row[kRows];
  int count;
};

// The tiles of a block share the next four rows among them.
template <class W>
NextRows next_rows(const W* const (&weight)[kRows], int64_t row_stride, int64_t tile, int64_t tiles) {
  const int share = tiles >= kRows ? 1 : tiles > 1 ? kRows / 2 : kRows;
  NextRows next{};
  if (tile * share >= kRows) return next;
  next.count = share;
  for (int i = 0; i < share; i++)
    next.row[i] = reinterpret_cast<const char*>(weight[tile * share + i]) + kRows * row_stride * sizeof(W);
  return next;
}

// sums[n][r] = weight[r] . input[n]
template <int kSamples, class W>
void dot_tile(const W* const (&weight)[kRows], const float* const* input, int64_t depth, const NextRows& next,
              float (*sums)[kRows]) {
  constexpr int64_t kLine = kLineBytes / sizeof(W);
  Lanes sum[kSamples][kRows] = {};
  const auto step = [&](const auto& take, int64_t k) __attribute__((always_inline)) {
    Lanes x[kSamples];
    for (int n = 0; n < kSamples; n++) x[n] = take(input[n] + k);
    for (int r = 0; r < kRows; r++) {
      const Lanes w = take(weight[r] + k);
      for (int n = 0; n < kSamples; n++) sum[n][r] = multiply_add(w, x[n], sum[n][r]);
    }
  };
  const auto all = [](const auto* p) __attribute__((always_inline)) { return lanes(p); };
  const auto rest = [&](int64_t count) {
    return [count](const auto* p) __attribute__((always_inline)) { return first_lanes(p, count); };
  };
  int64_t k = 0;
  for (; k + kLine <= depth; k += kLine) {
    for (int i = 0; i < next.count; i++) __builtin_prefetch(next.row[i] + k * sizeof(W), 0, 2);
    for (int r = 0; r < kRows; r++) __builtin_prefetch(reinterpret_cast<const char*>(weight[r] + k) + kNearBytes, 0, 3);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLine; i += kLanes) step(all, k + i);
  }
  for (; k + kLanes <= depth; k += kLanes) step(all, k);
  if (k < depth) step(rest(depth - k), k);
#pragma GCC unroll 8
  for (int n = 0; n < kSamples; n++) {
    const FourLanes four = sum_lanes(sum[n][0], sum[n][1], sum[n][2], sum[n][3]);
    memcpy(sums[n], &four, sizeof(four));
  }
}

template <int kSamples, class W>
void dot_tiles(int64_t samples, const W* const (&weight)[kRows], const float* const* input, int64_t depth,
               const NextRows& next, float (*sums)[kRows]) {
  if (samples == kSamples)
    dot_tile<kSamples>(weight, input, depth, next, sums);
  else if constexpr (kSamples > 1)
    dot_tiles<kSamples - 1>(samples, weight, input, depth, next, sums);
}

// Samples `start` to `stop` (half open): few enough to stay in the cache.
template <class W>
void dense_block(const Dense& layer, int64_t first, int64_t last, int64_t start, int64_t stop) {
  const int64_t tiles = (stop - start + kTile - 1) / kTile;
  for (int64_t row = first; row < last; row += kRows) {
    const W* weight[kRows];  // beyond the last row: that again, its sums unused
    for (int64_t r = 0; r < kRows; r++)
      weight[r] = static_cast<const W*>(layer.weight) + (row + r < last ? row + r : last - 1) * layer.row_stride;
    for (int64_t tile = 0; tile < tiles; tile++) {
      const int64_t sample = start + tile * kTile, samples = stop - sample < kTile ? stop - sample : kTile;
      const NextRows next = start == 0 ? next_rows(weight, layer.row_stride, tile, tiles) : NextRows{};
      float sums[kTile][kRows];
      dot_tiles<kTile>(samples, weight, layer.input + sample, layer.depth, next, sums);
      for (int64_t n = 0; n < samples; n++)
        for (int64_t r = 0; r < kRows && row + r < last; r++) layer.output[sample + n][row + r] = sums[n][r];
    }
  }
}

template <class W>
void dense(const Dense& layer, int64_t first, int64_t last) {
  const int64_t fitting = kBlockBytes / (layer.depth * static_cast<int64_t>(sizeof(float))) / kTile * kTile;
  const int64_t block = fitting > kTile ? fitting : kTile;
  for (int64_t start = 0; start < layer.samples; start += block)
    dense_block<W>(layer, first, last, start, start + block < layer.samples ? start + block : layer.samples);
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
