// SPDX-License-Identifier: MIT
// The element types that cross from tensors to typed maths.
#pragma once

#include <cstdint>
#include <utility>

#include "core/number.h"

namespace poseren {

enum class DType { f64, f32, f16, bf16, i32, u16, i8 };

template <class T>
struct Type {
  using type = T;
};

// visit(Type<T>{}) for the features' types.
template <class Visit>
decltype(auto) visit_features(DType dtype, Visit&& visit) {
  switch (dtype) {
    case DType::f64:
      return visit(Type<double>{});
    case DType::f16:
      return visit(Type<Half>{});
    case DType::bf16:
      return visit(Type<BFloat16>{});
    default:
      return visit(Type<float>{});
  }
}

// visit(Type<T>{}) for the types of packed weights.
template <class Visit>
decltype(auto) visit_weights(DType dtype, Visit&& visit) {
  switch (dtype) {
    case DType::bf16:
      return visit(Type<BFloat16>{});
    case DType::i8:
      return visit(Type<int8_t>{});
    default:
      return visit(Type<float>{});
  }
}

// visit(Type<T>{}) for the depth images' types.
template <class Visit>
decltype(auto) visit_depth(DType dtype, Visit&& visit) {
  switch (dtype) {
    case DType::u16:
      return visit(Type<uint16_t>{});
    case DType::i32:
      return visit(Type<int32_t>{});
    case DType::f16:
      return visit(Type<Half>{});
    case DType::bf16:
      return visit(Type<BFloat16>{});
    default:
      return visit(Type<float>{});
  }
}

}  // namespace poseren
