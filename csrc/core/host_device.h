// SPDX-License-Identifier: MIT
// Marks the maths that the CPU and the CUDA kernels share.
#pragma once

#if defined(__CUDACC__)
#define POSEREN_HD __host__ __device__
#elif defined(POSEREN_ISA)
#define POSEREN_HD __attribute__((always_inline))  // see csrc/cpu/isa.h
#else
#define POSEREN_HD
#endif
