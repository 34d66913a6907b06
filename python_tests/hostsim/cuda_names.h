// SPDX-License-Identifier: MIT
// CUDA's functions for a kernel that a host compiler compiles. Kernels include cuda/launch.h, which includes this.
#pragma once
#ifdef __CUDACC__
#error "nvcc has the real thing; include cuda/launch.h"
#endif

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <type_traits>

#include "hostsim/hostsim.h"
#include "hostsim/runtime.h"

using std::max;
using std::min;

namespace hostsim {

inline constexpr unsigned kWholeWarp = 0xffffffffu;

template <class T>
uint64_t to_bits(T value) {
  static_assert(std::is_trivially_copyable_v<T> && sizeof(T) <= 8, "a warp operation takes up to 8 bytes");
  uint64_t bits = 0;
  std::memcpy(&bits, static_cast<const void*>(&value), sizeof value);
  return bits;
}
template <class T>
T from_bits(uint64_t bits) {
  T value;
  std::memcpy(static_cast<void*>(&value), &bits, sizeof value);
  return value;
}

template <class T>
T shuffle(unsigned mask, T value, int source, Site site) {
  return from_bits<T>(warp_collective(WarpOp::shuffle, mask, to_bits(value), static_cast<unsigned>(source), site));
}
template <class T>
T reduce(WarpOp op, unsigned mask, T value, Site site) {
  return static_cast<T>(warp_collective(op, mask, static_cast<uint64_t>(int64_t{value}), 0, site));
}

// The lanes of this lane's part of the warp, when shuffles work on parts of `width` lanes.
struct Part {
  explicit Part(int width) : self(lane()), first(self & ~(width - 1)), last(self | (width - 1)) {}
  int self, first, last;
  int or_self(int source) const { return source < first || source > last ? self : source; }
};

template <class T>
using AtomicWord = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;

template <class T, class Update>
T atomic_update(T* address, Update update, Site site) {
  static_assert(std::is_integral_v<T> && (sizeof(T) == 4 || sizeof(T) == 8),
                "integers only: the order of float atomics changes the sum");
  if (reinterpret_cast<uintptr_t>(address) % sizeof(T))
    fail("atomic on a misaligned address at line " + std::to_string(site.line()) + " of " + site.file_name());
  T old = __atomic_load_n(address, __ATOMIC_RELAXED);
  while (!__atomic_compare_exchange_n(address, &old, update(old), false, __ATOMIC_RELAXED, __ATOMIC_RELAXED)) {
  }
  return old;
}

template <class Tag>
inline constexpr char shared_key = 0;
template <class T, class Tag>
T& static_shared() {
  return *static_cast<T*>(static_shared_bytes(&shared_key<Tag>, sizeof(T), alignof(T)));
}

}  // namespace hostsim

// ---- barriers
inline void __syncthreads(HOSTSIM_SITE) {
  hostsim::block_barrier(0, site);
}
inline int __syncthreads_count(int vote, HOSTSIM_SITE) {
  return hostsim::block_barrier(vote != 0, site);
}
inline int __syncthreads_or(int vote, HOSTSIM_SITE) {
  return hostsim::block_barrier(vote != 0, site) != 0;
}
inline int __syncthreads_and(int vote, HOSTSIM_SITE) {
  return hostsim::block_barrier(vote == 0, site) == 0;
}
inline void __syncwarp(unsigned mask = hostsim::kWholeWarp, HOSTSIM_SITE) {
  hostsim::warp_collective(hostsim::WarpOp::sync, mask, 0, 0, site);
}

// ---- shuffles
template <class T>
T __shfl_sync(unsigned mask, T value, int source, int width = 32, HOSTSIM_SITE) {
  return hostsim::shuffle(mask, value, hostsim::Part(width).first | (source & (width - 1)), site);
}
template <class T>
T __shfl_xor_sync(unsigned mask, T value, int lanes, int width = 32, HOSTSIM_SITE) {
  const hostsim::Part part(width);  // a lower part may be read, a higher may not
  const int source = part.self ^ lanes;
  return hostsim::shuffle(mask, value, source > part.last ? part.self : source, site);
}
template <class T>
T __shfl_down_sync(unsigned mask, T value, unsigned lanes, int width = 32, HOSTSIM_SITE) {
  const hostsim::Part part(width);
  return hostsim::shuffle(mask, value, part.or_self(part.self + static_cast<int>(lanes)), site);
}
template <class T>
T __shfl_up_sync(unsigned mask, T value, unsigned lanes, int width = 32, HOSTSIM_SITE) {
  const hostsim::Part part(width);
  return hostsim::shuffle(mask, value, part.or_self(part.self - static_cast<int>(lanes)), site);
}

// ---- votes and reductions
inline unsigned __ballot_sync(unsigned mask, int vote, HOSTSIM_SITE) {
  return static_cast<unsigned>(hostsim::warp_collective(hostsim::WarpOp::ballot, mask, vote != 0, 0, site));
}
inline int __any_sync(unsigned mask, int vote, HOSTSIM_SITE) {
  return __ballot_sync(mask, vote, site) != 0;
}
inline int __all_sync(unsigned mask, int vote, HOSTSIM_SITE) {
  return __ballot_sync(mask, vote == 0, site) == 0;
}
template <class T>
unsigned __match_any_sync(unsigned mask, T value, HOSTSIM_SITE) {
  const uint64_t equal = hostsim::warp_collective(hostsim::WarpOp::match_any, mask, hostsim::to_bits(value), 0, site);
  return static_cast<unsigned>(equal);
}
template <class T>
T __reduce_add_sync(unsigned mask, T value, HOSTSIM_SITE) {
  return hostsim::reduce(hostsim::WarpOp::add, mask, value, site);
}
template <class T>
T __reduce_min_sync(unsigned mask, T value, HOSTSIM_SITE) {
  return hostsim::reduce(hostsim::WarpOp::min, mask, value, site);
}
template <class T>
T __reduce_max_sync(unsigned mask, T value, HOSTSIM_SITE) {
  return hostsim::reduce(hostsim::WarpOp::max, mask, value, site);
}

// ---- atomics
template <class T>
T atomicAdd(T* address, std::type_identity_t<T> value, HOSTSIM_SITE) {
  return hostsim::atomic_update(address, [=](T old) { return static_cast<T>(old + value); }, site);
}
template <class T>
T atomicMax(T* address, std::type_identity_t<T> value, HOSTSIM_SITE) {
  return hostsim::atomic_update(address, [=](T old) { return max(old, value); }, site);
}
template <class T>
T atomicMin(T* address, std::type_identity_t<T> value, HOSTSIM_SITE) {
  return hostsim::atomic_update(address, [=](T old) { return min(old, value); }, site);
}
template <class T>
T atomicOr(T* address, std::type_identity_t<T> value, HOSTSIM_SITE) {
  return hostsim::atomic_update(address, [=](T old) { return old | value; }, site);
}
template <class T>
T atomicExch(T* address, std::type_identity_t<T> value, HOSTSIM_SITE) {
  return hostsim::atomic_update(address, [=](T) { return value; }, site);
}
template <class T>
T atomicCAS(T* address, std::type_identity_t<T> expected, std::type_identity_t<T> value, HOSTSIM_SITE) {
  return hostsim::atomic_update(address, [=](T old) { return old == expected ? value : old; }, site);
}

// ---- memory
inline void __threadfence() {}  // one OS thread: all threads see all memory
inline void __threadfence_block() {}
template <class T>
T __ldg(const T* address) {
  return *address;
}
template <class T>
T __ldcs(const T* address) {
  return *address;
}

// ---- arithmetic
inline int __popc(unsigned value) {
  return std::popcount(value);
}
inline int __clz(int value) {
  return std::countl_zero(static_cast<unsigned>(value));
}
inline int __ffs(int value) {
  return __builtin_ffs(value);
}
inline int __float_as_int(float value) {
  return std::bit_cast<int>(value);
}
inline float __int_as_float(int value) {
  return std::bit_cast<float>(value);
}
inline float __fadd_rn(float a, float b) {
  return a + b;
}
inline float __fsub_rn(float a, float b) {
  return a - b;
}
inline float __fmul_rn(float a, float b) {
  return a * b;
}
inline float __fdiv_rn(float a, float b) {
  return a / b;
}
inline float __fmaf_rn(float a, float b, float c) {
  return std::fma(a, b, c);
}
