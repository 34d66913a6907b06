// SPDX-License-Identifier: MIT
// vpdpbusd multiplies unsigned by signed bytes and adds four products. So a weight w enters as w + 128, an input x as
// bytes high and low with x = 256 high + low:
//   sum(w x) = 256 sum((w + 128) high) + sum((w + 128) low) - 128 sum(x)
#include "cpu/isa/fixed_point.h"

#if defined(__GNUC__) && !defined(__clang__)
// False positives inside GCC's <immintrin.h>.
#pragma GCC diagnostic ignored "-Wuninitialized"
#pragma GCC diagnostic ignored "-Wmaybe-uninitialized"
#endif
#include <immintrin.h>

#include <cstring>
#include <limits>

namespace poseren::cpu {
namespace {

constexpr int kRows = 4;                 // weight rows at a time: four memory streams
constexpr int kSamples = 2;              // at a time: with more, GCC spills some of the 4 x 2 sums per sample
constexpr int64_t kPrefetchBytes = 512;  // ahead in each row
constexpr float kLargest = 32639;        // 127 * 256 + 127
constexpr float kSmallest = 1e-30f;      // inputs below count as 0: the inverse of their step would overflow

// The sum of each of four registers.
inline __m128i sum_each(__m512i a, __m512i b, __m512i c, __m512i d) {
  const auto fold = [](__m512i v) __attribute__((always_inline)) {
    const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(v), _mm512_extracti64x4_epi64(v, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
  };
  return _mm_hadd_epi32(_mm_hadd_epi32(fold(a), fold(b)), _mm_hadd_epi32(fold(c), fold(d)));
}

inline FixedPoint fixed_point(const float* input, int64_t depth) {
  FixedPoint point;
  memcpy(&point, input + fixed_point_floats(depth) - 2, sizeof(point));
  return point;
}

// The products of four rows in float, rounded once before the multiplication by the input's step.
inline __m128 value(__m128i high, __m128i low, FixedPoint input) {
  const __m256i bytes = _mm256_add_epi64(_mm256_slli_epi64(_mm256_cvtepi32_epi64(high), 8), _mm256_cvtepi32_epi64(low));
  const __m256i sum = _mm256_sub_epi64(bytes, _mm256_set1_epi64x(int64_t{128} * input.sum));
  return _mm_mul_ps(_mm256_cvtepi64_ps(sum), _mm_set1_ps(input.step));
}

template <int kCount>
void multiply_tile(const int8_t* const (&weight)[kRows], const int8_t* const (&next)[kRows], int next_rows,
                   const float* const* input, int64_t depth, __m128* sums) {
  __m512i high[kCount][kRows] = {}, low[kCount][kRows] = {};
  const int8_t* x[kCount];
  for (int n = 0; n < kCount; n++) x[n] = reinterpret_cast<const int8_t*>(input[n]);
  const __mmask64 rest = ~__mmask64{0} >> ((kBlockValues - depth % kBlockValues) % kBlockValues);
  for (int64_t k = 0; k < depth; k += kBlockValues) {
    for (int r = 0; r < next_rows; r++) __builtin_prefetch(next[r] + k, 0, 2);
    for (int r = 0; r < kRows; r++) __builtin_prefetch(weight[r] + k + kPrefetchBytes, 0, 3);
    const __mmask64 mask = k + kBlockValues <= depth ? ~__mmask64{0} : rest;
    __m512i h[kCount], l[kCount];
#pragma GCC unroll 4
    for (int n = 0; n < kCount; n++) {
      h[n] = _mm512_loadu_si512(x[n] + 2 * k);
      l[n] = _mm512_loadu_si512(x[n] + 2 * k + kBlockValues);
    }
#pragma GCC unroll 4
    for (int r = 0; r < kRows; r++) {
      const __m512i w = _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, weight[r] + k), _mm512_set1_epi8(-128));
#pragma GCC unroll 4
      for (int n = 0; n < kCount; n++) {
        high[n][r] = _mm512_dpbusd_epi32(high[n][r], w, h[n]);
        low[n][r] = _mm512_dpbusd_epi32(low[n][r], w, l[n]);
      }
    }
  }
#pragma GCC unroll 4
  for (int n = 0; n < kCount; n++) {
    const __m128i h = sum_each(high[n][0], high[n][1], high[n][2], high[n][3]);
    const __m128i l = sum_each(low[n][0], low[n][1], low[n][2], low[n][3]);
    sums[n] = value(h, l, fixed_point(input[n], depth));
  }
}

template <int kCount>
void multiply_some(int64_t samples, const int8_t* const (&weight)[kRows], const int8_t* const (&next)[kRows],
                   int next_rows, const float* const* input, int64_t depth, __m128* sums) {
  if (samples == kCount)
    multiply_tile<kCount>(weight, next, next_rows, input, depth, sums);
  else if constexpr (kCount > 1)
    multiply_some<kCount - 1>(samples, weight, next, next_rows, input, depth, sums);
}

}  // namespace

void to_fixed_point(float* values, int64_t depth) {
  const auto some = [depth](int64_t k) __attribute__((always_inline)) {
    return depth - k < 16 ? static_cast<__mmask16>((1u << (depth - k)) - 1) : static_cast<__mmask16>(0xffff);
  };
  __m512 most = _mm512_setzero_ps();
  __mmask16 nonfinite = 0;
  for (int64_t k = 0; k < depth; k += 16) {
    const __m512 x = _mm512_abs_ps(_mm512_maskz_loadu_ps(some(k), values + k));
    nonfinite |= _mm512_cmp_ps_mask(x, _mm512_set1_ps(std::numeric_limits<float>::max()), _CMP_NLE_UQ);
    most = _mm512_max_ps(most, x);
  }
  const float largest = nonfinite ? 0 : _mm512_reduce_max_ps(most);
  const __m512 per_step = _mm512_set1_ps(largest > kSmallest ? kLargest / largest : 0);
  __m512i sum = _mm512_setzero_si512();
  char* bytes = reinterpret_cast<char*>(values);
  for (int64_t k = 0; k < depth; k += kBlockValues) {
    __m128i high[4], low[4];  // of this block, before its floats are written over
    for (int i = 0; i < 4; i++) {
      const int64_t at = k + 16 * i;
      const __mmask16 mask = at < depth ? some(at) : static_cast<__mmask16>(0);
      // Nothing but finite numbers counts: a NaN times 0 would not be 0.
      const __m512 x = nonfinite ? _mm512_setzero_ps() : _mm512_maskz_loadu_ps(mask, values + at);
      const __m512i steps = _mm512_cvtps_epi32(_mm512_mul_ps(x, per_step));
      sum = _mm512_add_epi32(sum, steps);
      high[i] = _mm512_cvtepi32_epi8(_mm512_srai_epi32(_mm512_add_epi32(steps, _mm512_set1_epi32(128)), 8));
      low[i] = _mm512_cvtepi32_epi8(steps);
    }
    memcpy(bytes + 2 * k, high, sizeof(high));
    memcpy(bytes + 2 * k + kBlockValues, low, sizeof(low));
  }
  const FixedPoint point{nonfinite ? std::numeric_limits<float>::quiet_NaN() : largest / kLargest,
                         _mm512_reduce_add_epi32(sum)};
  memcpy(values + fixed_point_floats(depth) - 2, &point, sizeof(point));
}

void fixed_point_rows(const Dense& layer, int64_t first, int64_t last) {
  const int64_t tiles = (layer.samples + kSamples - 1) / kSamples;
  for (int64_t row = first; row < last; row += kRows) {
    const int8_t *weight[kRows], *next[kRows];  // past the end: the last row again, its sums unused
    for (int64_t r = 0; r < kRows; r++)
      weight[r] = static_cast<const int8_t*>(layer.weight) + (row + r < last ? row + r : last - 1) * layer.row_stride;
    for (int64_t tile = 0; tile < tiles; tile++) {
      const int64_t begin = tile * kSamples;
      const int64_t samples = layer.samples - begin < kSamples ? layer.samples - begin : kSamples;
      // Each tile prefetches a part of the next rows.
      int next_rows = 0;
      for (int64_t r = kRows * tile / tiles; r < kRows * (tile + 1) / tiles; r++)
        next[next_rows++] = weight[r] + kRows * layer.row_stride;
      __m128 sums[kSamples];
      multiply_some<kSamples>(samples, weight, next, next_rows, layer.input + begin, layer.depth, sums);
      for (int64_t n = 0; n < samples; n++)
        memcpy(layer.output[begin + n] + row, &sums[n], (last - row < kRows ? last - row : kRows) * sizeof(float));
    }
  }
}

}  // namespace poseren::cpu
