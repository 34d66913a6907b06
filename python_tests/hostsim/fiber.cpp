// SPDX-License-Identifier: MIT
#include "hostsim/fiber.h"

#include <sys/mman.h>
#include <unistd.h>

#include <new>

#include "hostsim/sanitizer.h"

namespace hostsim {
namespace {

constexpr size_t kStackBytes = 256 * 1024;

Fiber* left = nullptr;     // the fiber that the last switch came from
Fiber* entered = nullptr;  // and the one that it went to

unsigned char* map_stack() {
  const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE));
  void* mapped =
      mmap(nullptr, kStackBytes + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (mapped == MAP_FAILED) throw std::bad_alloc();
  mprotect(mapped, page, PROT_NONE);  // an overflowing stack faults instead of reaching its neighbour
  return static_cast<unsigned char*>(mapped) + page;
}

void finish_switch() {
  if (__sanitizer_finish_switch_fiber)
    __sanitizer_finish_switch_fiber(entered->asan_fake_stack, &left->stack, &left->stack_size);
}

}  // namespace

#ifdef HOSTSIM_USE_UCONTEXT

static void prepare_context(Fiber& fiber, void (*body)()) {
  getcontext(&fiber.context);
  fiber.context.uc_stack.ss_sp = const_cast<void*>(fiber.stack);
  fiber.context.uc_stack.ss_size = fiber.stack_size;
  fiber.context.uc_link = nullptr;
  makecontext(&fiber.context, body, 0);
}
static void switch_context(Fiber& from, Fiber& to) {
  swapcontext(&from.context, &to.context);
}

#else

// Saves the callee-saved registers on one stack and restores them from another: eight times faster than swapcontext,
// which makes two system calls for the signal mask.
extern "C" void hostsim_switch(void** save_stack_pointer, void* load_stack_pointer);
asm(R"(
.pushsection .text
.weak hostsim_switch
.hidden hostsim_switch
.type hostsim_switch,@function
hostsim_switch:
  pushq %rbp
  pushq %rbx
  pushq %r12
  pushq %r13
  pushq %r14
  pushq %r15
  movq %rsp, (%rdi)
  movq %rsi, %rsp
  popq %r15
  popq %r14
  popq %r13
  popq %r12
  popq %rbx
  popq %rbp
  ret
.size hostsim_switch,.-hostsim_switch
.popsection
)");

static void prepare_context(Fiber& fiber, void (*body)()) {
  static unsigned colour = 0;  // tops of stacks in different cache sets, or they evict each other
  auto* top = static_cast<unsigned char*>(const_cast<void*>(fiber.stack)) + fiber.stack_size;
  auto** word = reinterpret_cast<void**>(top - 64 - (colour++ % 31) * 128);
  *--word = nullptr;  // the return address of `body`, which never returns; keeps the stack 16-byte aligned
  *--word = reinterpret_cast<void*>(body);
  for (int saved = 0; saved < 6; saved++) *--word = nullptr;
  fiber.stack_pointer = word;
}
static void switch_context(Fiber& from, Fiber& to) {
  hostsim_switch(&from.stack_pointer, to.stack_pointer);
}

#endif

std::unique_ptr<Fiber> make_fiber(void (*body)()) {
  auto fiber = std::make_unique<Fiber>();
  fiber->stack = map_stack();
  fiber->stack_size = kStackBytes;
  prepare_context(*fiber, body);
  if (race_detector()) fiber->tsan_fiber = __tsan_create_fiber(0);
  return fiber;
}

void fiber_started() {
  finish_switch();
}

void adopt_os_thread(Fiber& main) {
  if (race_detector()) main.tsan_fiber = __tsan_get_current_fiber();
}

void switch_fiber(Fiber& from, Fiber& to) {
  left = &from;
  entered = &to;
  if (__sanitizer_start_switch_fiber) __sanitizer_start_switch_fiber(&from.asan_fake_stack, to.stack, to.stack_size);
  if (race_detector()) __tsan_switch_to_fiber(to.tsan_fiber, 1 /* a switch orders nothing */);
  switch_context(from, to);
  finish_switch();
}

}  // namespace hostsim
