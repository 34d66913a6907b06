// SPDX-License-Identifier: MIT
#pragma once

#include <cstdint>

namespace poseren::cpu {
namespace {

constexpr int64_t kCacheLine = 64;  // bytes

// Prefetches `bytes` bytes from `address` on: into level 1 for use within tens of nanoseconds, into level 2 for a long
// stream. Any address is allowed, because nothing is read.
template <int kLevel>
inline void prefetch(const void* address, int64_t bytes) {
  asm volatile("");  // GCC removes calls of a function without side effects, even if it prefetches
  const char* first = static_cast<const char*>(address);
  const char* line =
      first - reinterpret_cast<uintptr_t>(first) % kCacheLine;  // so that the last byte's line is included
  for (const char* end = first + bytes; line < end; line += kCacheLine) __builtin_prefetch(line, 0, 4 - kLevel);
}

}  // namespace
}  // namespace poseren::cpu
