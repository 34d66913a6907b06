// SPDX-License-Identifier: MIT
// CUDA's keywords and vector types for a host compiler, so that no CUDA toolkit is needed to run kernels.
#pragma once

#include <cstdint>

#define __global__
#define __device__
#define __host__
#define __constant__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define __shared__ static_assert(false, "use SHARED(name, type) or DYNAMIC_SHARED(type, name) of cuda/launch.h");

struct uint3 {
  unsigned x, y, z;
};
struct dim3 {
  constexpr dim3(unsigned x = 1, unsigned y = 1, unsigned z = 1) : x(x), y(y), z(z) {}
  unsigned x, y, z;
};

// As aligned as in CUDA: UBSan sees a load from an address that would fault on a GPU.
#define HOSTSIM_VECTORS(T, name)                      \
  struct alignas(2 * sizeof(T)) name##2 {             \
    T x, y;                                           \
  };                                                  \
  struct alignas(4 * sizeof(T)) name##4 {             \
    T x, y, z, w;                                     \
  };                                                  \
  inline name##2 make_##name##2(T x, T y) {           \
    return {x, y};                                    \
  }                                                   \
  inline name##4 make_##name##4(T x, T y, T z, T w) { \
    return {x, y, z, w};                              \
  }
HOSTSIM_VECTORS(float, float)
HOSTSIM_VECTORS(int, int)
HOSTSIM_VECTORS(unsigned, uint)
HOSTSIM_VECTORS(unsigned short, ushort)
#undef HOSTSIM_VECTORS

extern uint3 threadIdx, blockIdx;  // of the thread that runs
extern dim3 blockDim, gridDim;
inline constexpr int warpSize = 32;
