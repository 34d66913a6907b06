// SPDX-License-Identifier: MIT
// Matrix products on tensor cores that keep float32's precision.
//
// A float is the exact sum of three bfloat16 (8 + 8 + 8 bits of mantissa). The product of two floats is then the sum of
// nine products; the three smallest are below the precision of float32 and are left out. A bfloat16 or int8 weight is a
// single bfloat16, and its products are exact.
#pragma once

#include "core/number.h"
#include "cuda/launch.h"

#ifdef __CUDACC__
#include <mma.h>
#else
#include "hostsim/wmma.h"
#endif

namespace poseren::cuda {

inline constexpr int kFragment = 16;  // side of the matrices that a warp multiplies

namespace wmma = nvcuda::wmma;
using MatrixA = wmma::fragment<wmma::matrix_a, kFragment, kFragment, kFragment, __nv_bfloat16, wmma::row_major>;
using MatrixB = wmma::fragment<wmma::matrix_b, kFragment, kFragment, kFragment, __nv_bfloat16, wmma::col_major>;
using MatrixC = wmma::fragment<wmma::accumulator, kFragment, kFragment, kFragment, float>;

template <class Matrix>
__device__ inline void load_matrix(Matrix& matrix, const BFloat16* from, int stride) {
  wmma::load_matrix_sync(matrix, reinterpret_cast<const __nv_bfloat16*>(from), stride);
}

inline constexpr int kParts = 3;  // bfloat16 per float

template <class W>
inline constexpr int kWeightParts = std::is_same_v<W, float> ? kParts : 1;

// Whether the product of two parts is computed; the others are smaller than the last bit of float32.
__device__ constexpr bool counts(int part, int weight_part) {
  return part + weight_part < kParts;
}

// part[0] + part[1] + part[2] = value; infinities and NaN are the first part.
template <int kCount>
__device__ inline void split(float value, BFloat16 (&parts)[kCount]) {
  parts[0] = from_float<BFloat16>(value);
  if constexpr (kCount > 1) {
    const bool finite = fabsf(to_float(parts[0])) < INFINITY;
    float rest = finite ? value - to_float(parts[0]) : 0.0f;
#pragma unroll
    for (int i = 1; i < kCount; i++) {
      parts[i] = from_float<BFloat16>(rest);
      rest -= to_float(parts[i]);
    }
  }
}

}  // namespace poseren::cuda
