// SPDX-License-Identifier: MIT
// The element types of tensors, and the way from a DType to code for the C++ type.
#pragma once

#include <cstdint>
#include <utility>

#include "core/number.h"

namespace poseren {

enum class DType { f64, f32, f16, bf16, i32, u16, i8 };

template <class T>
inline constexpr DType kDType = DType::f32;
template <>
inline constexpr DType kDType<double> = DType::f64;
template <>
inline constexpr DType kDType<Half> = DType::f16;
template <>
inline constexpr DType kDType<BFloat16> = DType::bf16;
template <>
inline constexpr DType kDType<int32_t> = DType::i32;
template <>
inline constexpr DType kDType<uint16_t> = DType::u16;
template <>
inline constexpr DType kDType<int8_t> = DType::i8;

template <class T>
struct Type {
  using type = T;
};

// visit(Type<T>{}) for the T that dtype stands for: one of Others, or else float.
template <class... Others>
struct Visitor {
  template <class Visit>
  static decltype(auto) call(DType, Visit&& visit) {
    return visit(Type<float>{});
  }
};
template <class T, class... Others>
struct Visitor<T, Others...> {
  template <class Visit>
  static decltype(auto) call(DType dtype, Visit&& visit) {
    return dtype == kDType<T> ? visit(Type<T>{}) : Visitor<Others...>::call(dtype, std::forward<Visit>(visit));
  }
};

template <class Visit>
decltype(auto) visit_features(DType dtype, Visit&& visit) {
  return Visitor<double, Half, BFloat16>::call(dtype, std::forward<Visit>(visit));
}
template <class Visit>
decltype(auto) visit_weights(DType dtype, Visit&& visit) {
  return Visitor<BFloat16, int8_t>::call(dtype, std::forward<Visit>(visit));
}
template <class Visit>
decltype(auto) visit_depth(DType dtype, Visit&& visit) {
  return Visitor<uint16_t, int32_t, Half, BFloat16>::call(dtype, std::forward<Visit>(visit));
}
template <class Visit>
decltype(auto) visit_crop(DType dtype, Visit&& visit) {
  return Visitor<Half, BFloat16>::call(dtype, std::forward<Visit>(visit));
}

// Depth images [B, H, W]; the columns of a row are adjacent.
struct DepthFrames {
  const void* data;
  DType dtype;
  int64_t batch, height, width;
  int64_t frame_stride, row_stride;  // elements

  template <class T>
  POSEREN_HD const T* frame(int64_t sample) const {
    return static_cast<const T*>(data) + sample * frame_stride;
  }
};

}  // namespace poseren
