// SPDX-License-Identifier: MIT
#include "cpu/isa/window_rows.h"

#include "cpu/isa/lanes.h"

namespace poseren::cpu {
namespace {

template <class T>
void sum_rows(const WindowRows& rows, const T* grad, Accumulator<T>* sum) {
  for (int64_t y = 0; y < rows.height; y++, sum += rows.width) {
    for (int64_t x = 0; x < rows.width; x++) sum[x] = 0;
    for (int64_t i = rows.begin[y]; i < rows.begin[y + 1]; i++) {
      const WindowRow& row = rows.row[i];
      for (int64_t x = 0; x < row.count; x++) sum[row.column + x] += load(grad + row.offset + x);
    }
  }
}

#if defined(__AVX512F__)
inline Lanes lanes_where(__mmask16 where, const float* p) {
  return _mm512_maskz_loadu_ps(where, p);
}
inline Lanes lanes_where(__mmask16 where, const BFloat16* p) {
  const Integers bits = (Integers)_mm512_maskz_cvtepu16_epi32(0xffff, _mm256_maskz_loadu_epi16(where, p));
  return reinterpret_cast<Lanes>(bits << 16);
}

// A row of the map in one register; a window's row is loaded where it lies, and nothing beside it is read.
template <class T>
void sum_rows_of_one_register(const WindowRows& rows, const T* grad, float* sum) {
  const __mmask16 all = static_cast<__mmask16>((1u << rows.width) - 1);
  for (int64_t y = 0; y < rows.height; y++, sum += rows.width) {
    Lanes total = {};
    for (int64_t i = rows.begin[y]; i < rows.begin[y + 1]; i++) {
      const WindowRow& row = rows.row[i];
      const __mmask16 where = static_cast<__mmask16>(((1u << row.count) - 1) << row.column);
      total += lanes_where(where, grad + row.offset - row.column);
    }
    _mm512_mask_storeu_ps(sum, all, total);
  }
}
#endif

template <class T>
void choose(const WindowRows& rows, const T* grad, Accumulator<T>* sum) {
#if defined(__AVX512F__)
  if constexpr (std::is_same_v<T, float> || std::is_same_v<T, BFloat16>)
    if (rows.width <= kLanes) return sum_rows_of_one_register(rows, grad, sum);
#endif
  sum_rows(rows, grad, sum);
}

}  // namespace

template <>
void sum_window_rows<POSEREN_ISA>(const WindowRows& rows, const double* grad, double* sum) {
  choose(rows, grad, sum);
}
template <>
void sum_window_rows<POSEREN_ISA>(const WindowRows& rows, const float* grad, float* sum) {
  choose(rows, grad, sum);
}
template <>
void sum_window_rows<POSEREN_ISA>(const WindowRows& rows, const BFloat16* grad, float* sum) {
  choose(rows, grad, sum);
}
template <>
void sum_window_rows<POSEREN_ISA>(const WindowRows& rows, const Half* grad, float* sum) {
  choose(rows, grad, sum);
}

}  // namespace poseren::cpu
