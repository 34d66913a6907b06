// SPDX-License-Identifier: MIT
// As many floats as one register holds, in the compiler's vector types. Only for csrc/cpu/isa/*.cpp.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/number.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

namespace poseren::cpu {
namespace {

#if defined(__AVX512F__)
constexpr int64_t kLanes = 16;
#elif defined(__AVX2__)
constexpr int64_t kLanes = 8;
#else
constexpr int64_t kLanes = 4;
#endif

typedef float Lanes __attribute__((vector_size(kLanes * sizeof(float))));
typedef float FourLanes __attribute__((vector_size(4 * sizeof(float))));

template <class Vector>
inline Vector unaligned(const void* p) {
  Vector v;
  memcpy(&v, p, sizeof(v));
  return v;
}

inline Lanes lanes(const float* p) {
  return unaligned<Lanes>(p);
}
inline Lanes lanes(const BFloat16* p) {
  typedef uint16_t Packed __attribute__((vector_size(kLanes * sizeof(uint16_t))));
  typedef uint32_t Bits __attribute__((vector_size(sizeof(Lanes))));
  return reinterpret_cast<Lanes>(__builtin_convertvector(unaligned<Packed>(p), Bits) << 16);
}
inline Lanes lanes(const int8_t* p) {
  typedef int8_t Packed __attribute__((vector_size(kLanes)));
  typedef int32_t Integers __attribute__((vector_size(sizeof(Lanes))));
  return __builtin_convertvector(__builtin_convertvector(unaligned<Packed>(p), Integers), Lanes);
}

// The first `count` of them; 0 in the others. Nothing is read beyond.
template <class T>
inline Lanes first_lanes(const T* p, int64_t count) {
  T some[kLanes] = {};
  memcpy(some, p, count * sizeof(T));
  return lanes(some);
}

inline Lanes multiply_add(Lanes a, Lanes b, Lanes c) {
#if defined(__AVX512F__)
  return _mm512_fmadd_ps(a, b, c);
#elif defined(__AVX2__)
  return _mm256_fmadd_ps(a, b, c);
#else
  return a * b + c;
#endif
}

inline FourLanes fold(Lanes v) {
#if defined(__AVX512F__)
  const auto half = __builtin_shufflevector(v, v, 0, 1, 2, 3, 4, 5, 6, 7) +
                    __builtin_shufflevector(v, v, 8, 9, 10, 11, 12, 13, 14, 15);
  return __builtin_shufflevector(half, half, 0, 1, 2, 3) + __builtin_shufflevector(half, half, 4, 5, 6, 7);
#elif defined(__AVX2__)
  return __builtin_shufflevector(v, v, 0, 1, 2, 3) + __builtin_shufflevector(v, v, 4, 5, 6, 7);
#else
  return v;
#endif
}

// The sums of each of four, always in the same order.
inline FourLanes sum_lanes(Lanes a, Lanes b, Lanes c, Lanes d) {
  const auto halve = [](Lanes v) __attribute__((always_inline)) {
    const FourLanes four = fold(v);
    return four + __builtin_shufflevector(four, four, 2, 3, 0, 1);
  };
  const FourLanes ab = __builtin_shufflevector(halve(a), halve(b), 0, 4, 1, 5);
  const FourLanes cd = __builtin_shufflevector(halve(c), halve(d), 0, 4, 1, 5);
  return __builtin_shufflevector(ab, cd, 0, 1, 4, 5) + __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
}

}  // namespace
}  // namespace poseren::cpu
