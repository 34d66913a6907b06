// SPDX-License-Identifier: MIT
// Results so large that they leave the caches before anyone reads them.
#pragma once

#include <cstdint>
#include <cstring>

#if defined(__SSE2__)
#include <emmintrin.h>
#endif

namespace poseren::cpu {

// From these bytes on it pays to write a result past the caches: an ordinary store first reads the line that it
// replaces, and its line pushes out another.
constexpr int64_t kStreamBytes = 1 << 23;

// memcpy past the caches, of what is best still in the first-level one. Before other threads read: finish_streams.
inline void stream_out(void* to, const void* from, int64_t bytes) {
#if defined(__SSE2__)
  char* out = static_cast<char*>(to);
  const char* in = static_cast<const char*>(from);
  const int64_t before = -reinterpret_cast<intptr_t>(out) & 15;  // to the first whole vector
  const int64_t head = before < bytes ? before : bytes;
  std::memcpy(out, in, head);
  int64_t at = head;
  for (; at + 16 <= bytes; at += 16)
    _mm_stream_si128(reinterpret_cast<__m128i*>(out + at), _mm_loadu_si128(reinterpret_cast<const __m128i*>(in + at)));
  std::memcpy(out + at, in + at, bytes - at);
#else
  std::memcpy(to, from, bytes);
#endif
}

inline void finish_streams() {
#if defined(__SSE2__)
  _mm_sfence();
#endif
}

}  // namespace poseren::cpu
