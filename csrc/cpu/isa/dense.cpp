// SPDX-License-Identifier: MIT
// Reads the weights once for all samples that need them. With one sample, memory bandwidth is the limit. With many it
// is L2 bandwidth: a part of some rows stays in L1 while the samples pass, as many at a time as have their sums in
// registers.
#include "cpu/isa/kernels.h"

#include "cpu/isa/lanes.h"
#include "cpu/prefetch.h"

namespace poseren::cpu {
namespace {

constexpr int kRows = 4;  // weight rows at a time: four memory streams
#if defined(__AVX512F__)
constexpr int kTile = 6;  // samples at a time: 4 x 6 sums, 6 inputs and a weight fill 31 of 32 registers
#else
constexpr int kTile = 3;  // 4 x 3 sums, 3 inputs and a weight: 16 registers
#endif
constexpr int64_t kBlockSamples = 11 * kTile;  // share one read of the weights; their sums are on the stack
constexpr int64_t kPrefetchBytes = 512;        // ahead in each row, into L1

// The next weight rows. Each tile prefetches some of them into L2 while it computes with the current ones.
struct NextRows {
  const char* row[kRows];
  int count;
};

// Splits the next four rows among the tiles of a block.
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

// Unfolded sums of a sample, kept from part to part of the depth.
struct Sums {
  Lanes row[kRows];
};

// Adds products of the inputs from `begin` to `end`: sums[n][r] += weight[r] . input[n]
template <int kSamples, class W>
void dot_tile(const W* const (&weight)[kRows], const float* const* input, int64_t begin, int64_t end,
              const NextRows& next, Sums* sums) {
  constexpr int64_t kLine = kCacheLine / sizeof(W);
  Lanes sum[kSamples][kRows];
  for (int n = 0; n < kSamples; n++)
    for (int r = 0; r < kRows; r++) sum[n][r] = begin ? sums[n].row[r] : Lanes{};
  const auto step = [&](const auto& load, int64_t k) __attribute__((always_inline)) {
    Lanes x[kSamples];
    for (int n = 0; n < kSamples; n++) x[n] = load(input[n] + k);
    for (int r = 0; r < kRows; r++) {
      const Lanes w = load(weight[r] + k);
      for (int n = 0; n < kSamples; n++) sum[n][r] = multiply_add(w, x[n], sum[n][r]);
    }
  };
  const auto all = [](const auto* p) __attribute__((always_inline)) { return lanes(p); };
  const auto partial = [&](int64_t count) {
    return [count](const auto* p) __attribute__((always_inline)) { return first_lanes(p, count); };
  };
  int64_t k = begin;
  for (; k + kLine <= end; k += kLine) {
    for (int i = 0; i < next.count; i++) __builtin_prefetch(next.row[i] + k * sizeof(W), 0, 2);
    for (int r = 0; r < kRows; r++)
      __builtin_prefetch(reinterpret_cast<const char*>(weight[r] + k) + kPrefetchBytes, 0, 3);
#pragma GCC unroll 16
    for (int64_t i = 0; i < kLine; i += kLanes) step(all, k + i);
  }
  for (; k + kLanes <= end; k += kLanes) step(all, k);
  if (k < end) step(partial(end - k), k);
  for (int n = 0; n < kSamples; n++)
    for (int r = 0; r < kRows; r++) sums[n].row[r] = sum[n][r];
}

template <int kSamples, class W>
void dot_tiles(int64_t samples, const W* const (&weight)[kRows], const float* const* input, int64_t begin, int64_t end,
               const NextRows& next, Sums* sums) {
  if (samples == kSamples)
    dot_tile<kSamples>(weight, input, begin, end, next, sums);
  else if constexpr (kSamples > 1)
    dot_tiles<kSamples - 1>(samples, weight, input, begin, end, next, sums);
}

// Samples `start` to `stop` (half open).
template <class W>
void dense_block(const Dense& layer, int64_t first, int64_t last, int64_t start, int64_t stop) {
  const int64_t tiles = (stop - start + kTile - 1) / kTile;
  const int64_t part = tiles > 1 ? layer.part : layer.depth;  // a single tile reads nothing twice
  Sums sums[kBlockSamples];
  for (int64_t row = first; row < last; row += kRows) {
    const W* weight[kRows];  // past the end: the last row again, its sums unused
    for (int64_t r = 0; r < kRows; r++)
      weight[r] = static_cast<const W*>(layer.weight) + (row + r < last ? row + r : last - 1) * layer.row_stride;
    for (int64_t begin = 0; begin < layer.depth; begin += part)
      for (int64_t tile = 0; tile < tiles; tile++) {
        const int64_t n = tile * kTile, rest = stop - start - n;
        dot_tiles<kTile>(rest < kTile ? rest : kTile, weight, layer.input + start + n, begin,
                         begin + part < layer.depth ? begin + part : layer.depth,
                         next_rows(weight, layer.row_stride, tile, tiles), sums + n);
      }
    for (int64_t n = 0; n < stop - start; n++) {
      const Lanes* sum = sums[n].row;
      const FourLanes four = sum_lanes(sum[0], sum[1], sum[2], sum[3]);
      memcpy(layer.output[start + n] + row, &four, (last - row < kRows ? last - row : kRows) * sizeof(float));
    }
  }
}

template <class W>
void dense(const Dense& layer, int64_t first, int64_t last) {
  const int64_t blocks = (layer.samples + kBlockSamples - 1) / kBlockSamples;
  for (int64_t i = 0; i < blocks; i++)
    dense_block<W>(layer, first, last, layer.samples * i / blocks, layer.samples * (i + 1) / blocks);
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
