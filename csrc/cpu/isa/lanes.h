// SPDX-License-Identifier: MIT
// A register of floats, in the compiler's vector types. Only for csrc/cpu/isa/*.cpp.
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

typedef int32_t Integers __attribute__((vector_size(sizeof(Lanes))));

// Widens to 32-bit integers. Use intrinsics: GCC scalarises __builtin_convertvector here.
#if defined(__AVX512F__)
inline Integers widen(const uint16_t* p) {
  return (Integers)_mm512_maskz_cvtepu16_epi32(0xffff, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
inline Integers widen(const int8_t* p) {
  return (Integers)_mm512_maskz_cvtepi8_epi32(0xffff, _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
#elif defined(__AVX2__)
inline Integers widen(const uint16_t* p) {
  return (Integers)_mm256_cvtepu16_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p)));
}
inline Integers widen(const int8_t* p) {
  return (Integers)_mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)));
}
#else
template <class T>
inline Integers widen(const T* p) {
  return Integers{p[0], p[1], p[2], p[3]};
}
#endif

inline Lanes lanes(const float* p) {
  Lanes v;
  memcpy(&v, p, sizeof(v));
  return v;
}
inline Lanes lanes(const BFloat16* p) {
  return reinterpret_cast<Lanes>(widen(reinterpret_cast<const uint16_t*>(p)) << 16);
}
inline Lanes lanes(const int8_t* p) {
  return __builtin_convertvector(widen(p), Lanes);
}

// The first `count` lanes, the others 0. Reads nothing past them.
template <class T>
inline Lanes first_lanes(const T* p, int64_t count) {
  T values[kLanes] = {};
  memcpy(values, p, count * sizeof(T));
  return lanes(values);
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

// The sum of each of four registers, always in the same order.
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
