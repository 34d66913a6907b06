// SPDX-License-Identifier: MIT
// Fibers: stacks that one OS thread switches between. Every switch is reported to the sanitizers.
#pragma once

#include <cstddef>
#include <memory>

#if !defined(__x86_64__) || defined(HOSTSIM_UCONTEXT)
#include <ucontext.h>
#define HOSTSIM_USE_UCONTEXT 1
#endif

namespace hostsim {

struct Fiber {
#ifdef HOSTSIM_USE_UCONTEXT
  ucontext_t context{};
#else
  void* stack_pointer = nullptr;
#endif
  const void* stack = nullptr;  // lowest address; of the OS thread's own stack only AddressSanitizer knows it
  size_t stack_size = 0;
  void* asan_fake_stack = nullptr;
  void* tsan_fiber = nullptr;
};

// A fiber that calls `body` when it is first switched to. `body` calls fiber_started() first and never returns.
// Fibers live as long as the process.
std::unique_ptr<Fiber> make_fiber(void (*body)());
void fiber_started();

// Makes `main` stand for the calling OS thread.
void adopt_os_thread(Fiber& main);

void switch_fiber(Fiber& from, Fiber& to);

}  // namespace hostsim
