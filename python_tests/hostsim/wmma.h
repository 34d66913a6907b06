// SPDX-License-Identifier: MIT
// The subset of the warp matrix functions of CUDA's mma.h that the kernels use: 16x16x16, bfloat16 times bfloat16 into
// float. Which element lies in which lane is as unspecified as on a GPU.
#pragma once

#include <cstring>

#include "hostsim/cuda_names.h"

struct __nv_bfloat16 {
  uint16_t bits;
};

namespace nvcuda::wmma {

struct matrix_a {};
struct matrix_b {};
struct accumulator {};
struct row_major {};
struct col_major {};
enum layout_t { mem_row_major, mem_col_major };

template <class Use, int kM, int kN, int kK, class T, class Layout = void>
struct fragment {
  static_assert(kM == 16 && kN == 16 && kK == 16);
  static constexpr int num_elements = 8;
  T x[num_elements];
};

namespace detail {

// Lane l holds half of line l / 2: a row of a and of the accumulator, a column of b.
inline int line() {
  return hostsim::lane() / 2;
}
inline int first() {
  return hostsim::lane() % 2 * 8;
}

inline float to_float(__nv_bfloat16 value) {
  return std::bit_cast<float>(static_cast<uint32_t>(value.bits) << 16);
}

using A = fragment<matrix_a, 16, 16, 16, __nv_bfloat16, row_major>;
using B = fragment<matrix_b, 16, 16, 16, __nv_bfloat16, col_major>;
using C = fragment<accumulator, 16, 16, 16, float>;

inline float toward_zero(double value) {
  const float nearest = static_cast<float>(value);
  return std::fabs(nearest) > std::fabs(value) ? std::nextafterf(nearest, 0.0f) : nearest;
}

// Eight products and a sum, truncated instead of rounded, as on tensor cores: kernels must compensate for it.
inline float add_products(float sum, const float* a, const float* b) {
  double exact = sum;
  for (int k = 0; k < 8; k++) exact += double{a[k]} * double{b[k]};
  return toward_zero(exact);
}

struct Mma : hostsim::WarpTask {
  C& d;
  const A& a;
  const B& b;
  const C& c;

  Mma(C& d, const A& a, const B& b, const C& c) : WarpTask{multiply}, d(d), a(a), b(b), c(c) {}

  // Works on the fragments of all lanes, which are on their stacks; hidden from the race detector.
  __attribute__((no_sanitize("thread"))) static void multiply(hostsim::WarpTask* const* tasks) {
    const auto lane = [&](int row, int column) { return static_cast<Mma*>(tasks[row * 2 + column / 8]); };
    float a[16][16], b[16][16];
    for (int i = 0; i < 16; i++)
      for (int k = 0; k < 16; k++) {
        a[i][k] = to_float(lane(i, k)->a.x[k % 8]);
        b[i][k] = to_float(lane(i, k)->b.x[k % 8]);
      }
    for (int i = 0; i < 16; i++)
      for (int j = 0; j < 16; j++) {
        lane(i, j)->d.x[j % 8] = add_products(add_products(lane(i, j)->c.x[j % 8], a[i], b[j]), a[i] + 8, b[j] + 8);
      }
  }
};

template <class T>
void check_address(const T* address, unsigned stride, hostsim::Site site) {
  if (reinterpret_cast<uintptr_t>(address) % 32 || stride * sizeof(T) % 16)
    hostsim::fail("matrix at a misaligned address or stride at line " + std::to_string(site.line()) + " of " +
                  site.file_name());
}

}  // namespace detail

inline void fill_fragment(detail::C& fragment, float value) {
  for (float& x : fragment.x) x = value;
}

template <class Fragment>
  requires(!std::is_same_v<Fragment, detail::C>)
void load_matrix_sync(Fragment& fragment, const __nv_bfloat16* matrix, unsigned stride, HOSTSIM_SITE) {
  detail::check_address(matrix, stride, site);
  for (int i = 0; i < 8; i++) fragment.x[i] = matrix[detail::line() * stride + detail::first() + i];
  __any_sync(hostsim::kWholeWarp, 0, site);  // all lanes must come; orders no memory
}

inline void store_matrix_sync(float* matrix, const detail::C& fragment, unsigned stride, layout_t layout,
                              HOSTSIM_SITE) {
  detail::check_address(matrix, stride, site);
  if (layout != mem_row_major) hostsim::fail("only row-major stores");
  for (int i = 0; i < 8; i++) matrix[detail::line() * stride + detail::first() + i] = fragment.x[i];
  __any_sync(hostsim::kWholeWarp, 0, site);
}

inline void mma_sync(detail::C& d, const detail::A& a, const detail::B& b, const detail::C& c, HOSTSIM_SITE) {
  detail::Mma task(d, a, b, c);
  hostsim::run_together(task, site);
}

}  // namespace nvcuda::wmma
