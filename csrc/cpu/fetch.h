// SPDX-License-Identifier: MIT
// Memory asked for before it is needed.
#pragma once

#include <cstdint>

namespace poseren::cpu {
namespace {

constexpr int64_t kFetchLine = 64;  // bytes of a cache line

// Starts to bring `bytes` bytes from `place` on to the cache of that level: the first for what is used within tens of
// nanoseconds, the second for a long stream. Nothing is read: the place may lie anywhere.
template <int kLevel>
inline void fetch(const void* place, int64_t bytes) {
  asm volatile("");  // an effect: gcc drops the calls of a function that does nothing but prefetch
  const char* first = static_cast<const char*>(place);
  const char* line = first - reinterpret_cast<uintptr_t>(first) % kFetchLine;  // also the last byte's
  for (const char* end = first + bytes; line < end; line += kFetchLine) __builtin_prefetch(line, 0, 4 - kLevel);
}

}  // namespace
}  // namespace poseren::cpu
