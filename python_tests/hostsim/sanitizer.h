// SPDX-License-Identifier: MIT
// The fiber interfaces of AddressSanitizer and ThreadSanitizer, as weak symbols: the runtime itself is compiled without
// sanitizers and finds out when it runs which one, if any, the kernels were linked with.
#pragma once

#include <cstddef>

#define HOSTSIM_WEAK __attribute__((weak, visibility("default")))
extern "C" {
HOSTSIM_WEAK void __sanitizer_start_switch_fiber(void** fake_stack, const void* bottom, size_t size);
HOSTSIM_WEAK void __sanitizer_finish_switch_fiber(void* fake_stack, const void** old_bottom, size_t* old_size);
HOSTSIM_WEAK void* __tsan_get_current_fiber();
HOSTSIM_WEAK void* __tsan_create_fiber(unsigned flags);
HOSTSIM_WEAK void __tsan_switch_to_fiber(void* fiber, unsigned flags);
HOSTSIM_WEAK void __tsan_acquire(void* word);
HOSTSIM_WEAK void __tsan_release(void* word);
HOSTSIM_WEAK void __tsan_ignore_thread_begin();
HOSTSIM_WEAK void __tsan_ignore_thread_end();
}
#undef HOSTSIM_WEAK

namespace hostsim {

inline bool race_detector() {
  return __tsan_create_fiber != nullptr;
}

// Tells the race detector that everything before release(word) happens before everything after acquire(word).
inline void release(void* word) {
  if (__tsan_release) __tsan_release(word);
}
inline void acquire(void* word) {
  if (__tsan_acquire) __tsan_acquire(word);
}

// Hides the memory accesses of the calling thread or fiber in this scope from the race detector. Memory allocated in it
// starts with an empty history, because a block may reuse the addresses of another block's shared memory.
struct Unobserved {
  Unobserved() {
    if (__tsan_ignore_thread_begin) __tsan_ignore_thread_begin();
  }
  ~Unobserved() {
    if (__tsan_ignore_thread_end) __tsan_ignore_thread_end();
  }
  Unobserved(const Unobserved&) = delete;
  Unobserved& operator=(const Unobserved&) = delete;
};

}  // namespace hostsim
