// SPDX-License-Identifier: MIT
// Matrix-vector products for a few vectors. Memory bandwidth is the limit, so each weight is read once, 16 bytes per
// lane.
//
// A warp computes whole rows: lane l sums the packs l, l + 32, ... of kPack weights, then the lanes are reduced as a
// tree. The order of a sum depends only on the length of the row, so one sample and eight give the same bits.
#pragma once

#include "cuda/warp.h"

namespace poseren::cuda {

// The position of element k of a vector in shared memory. A lane reads its kPack elements as float4; the float4 of the
// 32 lanes are adjacent (512 bytes), which avoids bank conflicts.
template <int kPack>
__device__ inline int staged_index(int k) {
  if constexpr (kPack <= 4) {
    return k;
  } else {
    constexpr int kBlock = kPack * kWarp;
    const int block = k / kBlock, lane = k % kBlock / kPack, i = k % kPack;
    return block * kBlock + i / 4 * (4 * kWarp) + lane * 4 + i % 4;
  }
}

// The number of floats in shared memory of a vector of `depth` elements.
template <int kPack>
__host__ __device__ inline int staged_size(int depth) {
  constexpr int kBlock = kPack * kWarp;
  return (depth + kBlock - 1) / kBlock * kBlock;
}

template <int kPack>
inline constexpr int kPart = kPack < 4 ? kPack : 4;  // elements per read of a lane

// The part of a staged vector that begins at element `first` of it.
template <int kPack>
__device__ inline Pack<float> read_part(const float* vector, int first) {
  const float* from = vector + staged_index<kPack>(first);
  if constexpr (kPart<kPack> == 4) return load_pack(from);
  return {*from};
}

// The next kPack weights of a row.
template <int kPack, class W>
__device__ inline Pack<W> read_weights(const W* weights) {
  if constexpr (kPack == Pack<W>::kSize) return load_pack_once(weights);
  return {*weights};
}

// sums[r, s] += one lane's pack of row r times vector s of the staged inputs, from element k on.
template <int kPack, int kRows, int kSamples, class W>
__device__ inline void add_packs(const Pack<W> (&weights)[kRows], const float* inputs, int size, int k,
                                 float (&sums)[kRows * kSamples]) {
  constexpr int kCount = kPart<kPack>;
#pragma unroll
  for (int part = 0; part < kPack; part += kCount) {
    float w[kRows][kCount];
#pragma unroll
    for (int r = 0; r < kRows; r++)
#pragma unroll
      for (int i = 0; i < kCount; i++) w[r][i] = to_float(weights[r].value[part + i]);
#pragma unroll
    for (int s = 0; s < kSamples; s++) {
      const Pack<float> x = read_part<kPack>(inputs + s * size, k + part);
#pragma unroll
      for (int r = 0; r < kRows; r++)
#pragma unroll
        for (int i = 0; i < kCount; i++) sums[r * kSamples + s] = fmaf(w[r][i], x.value[i], sums[r * kSamples + s]);
    }
  }
}

// Adds the lane's share of rows [kRows, depth] times kSamples staged inputs.
template <int kPack, int kRows, int kSamples, class W>
__device__ inline void add_products(const W* const (&rows)[kRows], int depth, const float* inputs,
                                    float (&sums)[kRows * kSamples]) {
  const int size = staged_size<kPack>(depth);
#pragma unroll(kRows == 2 ? 4 : 1)  // more loads in flight would spill registers
  for (int k = static_cast<int>(threadIdx.x % kWarp) * kPack; k < depth; k += kWarp * kPack) {
    Pack<W> weights[kRows];
#pragma unroll
    for (int r = 0; r < kRows; r++) weights[r] = read_weights<kPack>(rows[r] + k);
    add_packs<kPack, kRows, kSamples>(weights, inputs, size, k, sums);
  }
}

// Rows first..last (half open) of weights [.., depth] times `samples` <= kSamples staged inputs, shared among the
// block's warps; write(row, sample, sum) is called by one lane.
template <int kPack, int kSamples, class W, class Write>
__device__ void dot_rows(const W* weights, int depth, int64_t first, int64_t last, const float* inputs, int samples,
                         const Write& write) {
  constexpr int kRows = kSamples <= 4 ? 2 : 4;
  const int warp = static_cast<int>(threadIdx.x) / kWarp, warps = static_cast<int>(blockDim.x) / kWarp;
  for (int64_t row = first + warp * kRows; row < last; row += warps * kRows) {
    const W* rows[kRows];  // rows past the end repeat the last row; their sums are not written
#pragma unroll
    for (int r = 0; r < kRows; r++) rows[r] = weights + (row + r < last ? row + r : last - 1) * int64_t{depth};
    float sums[kRows * kSamples] = {};
    add_products<kPack, kRows, kSamples>(rows, depth, inputs, sums);
    const float sum = fold_each<kRows * kSamples>(sums);
    constexpr int kLanesEach = kWarp / (kRows * kSamples);
    const int lane = static_cast<int>(threadIdx.x) % kWarp, s = lane / kLanesEach % kSamples;
    const int64_t r = row + lane / kLanesEach / kSamples;
    if (lane % kLanesEach == 0 && r < last && s < samples) write(r, s, sum);
  }
}

}  // namespace poseren::cuda
