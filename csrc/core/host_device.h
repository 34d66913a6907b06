// SPDX-License-Identifier: MIT
// Marks the maths that the CPU and the CUDA kernels share.
#pragma once

#if defined(__CUDACC__)
#define POSEREN_HD __host__ __device__
#else
#define POSEREN_HD
#endif
