// SPDX-License-Identifier: MIT
// The macro for functions shared by CPU and CUDA, and the 16-bit floating-point types as plain bits, with conversions
// that give the same bits on every device.
#pragma once

#include <cstdint>
#include <cstring>
#include <limits>
#include <type_traits>

#if defined(__CUDACC__)
#define POSEREN_HD __host__ __device__
#elif defined(POSEREN_ISA)
#define POSEREN_HD __attribute__((always_inline))  // see csrc/cpu/isa.h
#else
#define POSEREN_HD
#endif

namespace poseren {

struct Range {
  int64_t first, last;  // half open

  POSEREN_HD int64_t size() const { return last - first; }
};

struct Half {
  uint16_t bits;
};
struct BFloat16 {
  uint16_t bits;
};

// A constant, because kernels cannot call functions of std.
template <class T>
inline constexpr T kNaN = std::numeric_limits<T>::quiet_NaN();

template <class To, class From>
POSEREN_HD inline To bit_cast(From from) {
  static_assert(sizeof(To) == sizeof(From));
  To to;
  memcpy(&to, &from, sizeof(to));
  return to;
}

template <class T>
POSEREN_HD inline float to_float(T value) {
  return static_cast<float>(value);
}
template <>
POSEREN_HD inline float to_float(BFloat16 value) {
  return bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}
template <>
POSEREN_HD inline float to_float(Half value) {
  // Shift to the exponent and mantissa of a float, then rebias by an exact product, which also handles subnormals.
  const uint32_t sign = static_cast<uint32_t>(value.bits & 0x8000) << 16;
  const uint32_t magnitude = static_cast<uint32_t>(value.bits & 0x7fff) << 13;
  if ((value.bits & 0x7c00) == 0x7c00) return bit_cast<float>(sign | 0x7f800000u | magnitude);
  return bit_cast<float>(sign | bit_cast<uint32_t>(bit_cast<float>(magnitude) * 0x1p112f));
}

template <class T>
POSEREN_HD inline T from_float(float value) {
  return static_cast<T>(value);
}
template <>
POSEREN_HD inline BFloat16 from_float(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  if ((bits & 0x7fffffffu) > 0x7f800000u) return {static_cast<uint16_t>((bits >> 16) | 0x40)};  // NaN stays NaN
  return {static_cast<uint16_t>((bits + 0x7fff + ((bits >> 16) & 1)) >> 16)};                   // nearest, ties to even
}
template <>
POSEREN_HD inline Half from_float(float value) {
  const uint32_t bits = bit_cast<uint32_t>(value);
  const uint16_t sign = static_cast<uint16_t>((bits >> 16) & 0x8000);
  const uint32_t magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) return {static_cast<uint16_t>(sign | 0x7e00)};   // NaN stays NaN
  if (magnitude >= 0x477ff000u) return {static_cast<uint16_t>(sign | 0x7c00)};  // rounds beyond 65504
  if (magnitude < 0x38800000u) {
    // Subnormal half: adding 1/2 rounds to multiples of 2^-24.
    const float rounded = bit_cast<float>(magnitude) + 0.5f;
    return {static_cast<uint16_t>(sign | (bit_cast<uint32_t>(rounded) - 0x3f000000u))};
  }
  const uint32_t even = (magnitude >> 13) & 1;
  return {static_cast<uint16_t>(sign | ((magnitude - 0x38000000u + 0xfff + even) >> 13))};
}

// The type of sums and products: float64 for float64 features, float32 for all others.
template <class T>
using Accumulator = std::conditional_t<std::is_same_v<T, double>, double, float>;

template <class T>
POSEREN_HD inline Accumulator<T> load(const T* p) {
  if constexpr (std::is_same_v<T, double>)
    return *p;
  else
    return to_float(*p);
}
template <class T>
POSEREN_HD inline void store(T* p, Accumulator<T> value) {
  if constexpr (std::is_same_v<T, double>)
    *p = value;
  else
    *p = from_float<T>(value);
}

}  // namespace poseren
