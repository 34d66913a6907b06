// SPDX-License-Identifier: MIT
// Runs the threads of one block after another, in the order that the settings ask for.
#include <algorithm>
#include <mutex>
#include <numeric>
#include <random>
#include <stdexcept>

#include "hostsim/hostsim.h"
#include "hostsim/sanitizer.h"
#include "hostsim/state.h"

uint3 threadIdx, blockIdx;
dim3 blockDim, gridDim;

namespace hostsim {

Machine machine;

namespace {

struct Abort {};  // unwinds a thread when the launch is given up

void enter(Thread* thread) {
  machine.thread = thread;
  threadIdx = thread->index;
}

void go_to(Fiber* to) {
  Fiber* from = machine.current;
  machine.current = to;
  switch_fiber(*from, *to);
}

void give_up(Thread* thread, const char* why) {
  Unobserved scope;
  if (machine.error.empty()) machine.error = why;
  thread->state = State::done;
  machine.next_fresh = machine.order.size();
}

void run_thread(Thread* thread) {
  thread->fiber = machine.current;
  thread->state = State::ready;
  enter(thread);
  acquire(&machine.launch_word);
  try {
    machine.call(machine.call_arg);
    thread->state = State::done;
    Block& block = *machine.block;
    block.done++;
    block.warps[thread->rank / 32].live &= ~(1u << thread->rank % 32);
    finish_collectives(thread->rank / 32);
    finish_block_barrier();
  } catch (const Abort&) {
    give_up(thread, "");
  } catch (const std::exception& error) {
    give_up(thread, error.what());
  }
  release(&machine.end_word);
}

// A fiber runs fresh threads one after another until one of them has to wait: a thread without barriers costs a
// function call, not a switch. To a race detector the threads of one fiber are one thread, so there each gets its own.
void fiber_body() {
  fiber_started();
  for (;;) {
    do run_thread(&machine.block->threads[machine.order[machine.next_fresh++]]);
    while (machine.next_fresh < machine.order.size() && !race_detector());
    (race_detector() ? machine.retired : machine.idle).push_back(machine.current);
    machine.thread = nullptr;
    go_to(&machine.main);
  }
}

Fiber* take_idle_fiber() {
  if (machine.idle.empty()) {
    machine.fibers.push_back(make_fiber(fiber_body));
    for (auto* list : {&machine.idle, &machine.retired, &machine.resting})
      list->reserve(machine.fibers.size());  // so that nothing is allocated inside a fiber
    return machine.fibers.back().get();
  }
  Fiber* fiber = machine.idle.back();
  machine.idle.pop_back();
  return fiber;
}

// A race detector sees no race between two threads of one fiber: let the next block run on other fibers than the last.
void rest_retired_fibers() {
  machine.idle.insert(machine.idle.end(), machine.resting.begin(), machine.resting.end());
  machine.resting.swap(machine.retired);
  machine.retired.clear();
}

std::string deadlock_report(const Block& block) {
  static const char* const places[] = {"nothing", "nothing", "__syncthreads", "a warp operation", "the grid barrier"};
  std::string report = "deadlock:";
  std::vector<const Thread*> waiting;
  for (const Thread& thread : block.threads)
    if (thread.state != State::done) waiting.push_back(&thread);
  while (!waiting.empty()) {
    const Thread& first = *waiting.front();
    const size_t before = waiting.size();
    std::erase_if(waiting, [&](const Thread* t) { return t->state == first.state && same(t->site, first.site); });
    report += (report.back() == ':' ? " " : "; ") + std::to_string(before - waiting.size()) + " thread(s), the first " +
              describe(first) + ", wait at " + places[static_cast<int>(first.state)] + " at " + describe(first.site);
  }
  return report;
}

// Runs a block until each of its threads has returned or waits at the grid barrier.
void run_block(Block& block) {
  machine.block = &block;
  blockIdx = block.index;
  while (machine.error.empty()) {
    bool progress = false;
    while (machine.next_fresh < machine.order.size() && machine.error.empty()) {
      go_to(take_idle_fiber());
      progress = true;
    }
    for (unsigned rank : machine.order) {
      if (block.threads[rank].state != State::ready || !machine.error.empty()) continue;
      go_to(block.threads[rank].fiber);
      progress = true;
    }
    if (!machine.error.empty() || block.done + block.at_grid_barrier == block.threads.size()) return;
    if (!progress) machine.error = deadlock_report(block);
  }
}

// Resumes the threads that wait, so that they leave through Abort.
void unwind(Block& block) {
  machine.block = &block;
  for (Thread& thread : block.threads)
    if (thread.state != State::done && thread.state != State::fresh) go_to(thread.fiber);
}

void order_threads(uint64_t block_number, const Settings& how) {
  const dim3& block = machine.geometry.block;
  machine.order.resize(size_t{block.x} * block.y * block.z);
  std::iota(machine.order.begin(), machine.order.end(), 0u);
  if (how.order == Order::reverse) std::reverse(machine.order.begin(), machine.order.end());
  if (how.order == Order::random)
    std::shuffle(machine.order.begin(), machine.order.end(),
                 std::mt19937(how.seed + static_cast<unsigned>(block_number)));
}

void run_independent_blocks(const std::vector<uint64_t>& numbers, const Settings& how) {
  for (uint64_t number : numbers) {
    Block block(machine.geometry, number);
    order_threads(number, how);
    machine.next_fresh = 0;
    run_block(block);
    if (!machine.error.empty()) unwind(block);
    rest_retired_fibers();
    if (!machine.error.empty()) return;
  }
}

void open_grid_barrier(std::vector<std::unique_ptr<Block>>& blocks) {
  for (auto& block : blocks) {
    if (block->done) {
      machine.error = "grid barrier at " + describe(machine.grid_barrier_site) + ": some threads had already returned";
      return;
    }
    for (Thread& thread : block->threads) thread.state = State::ready;
    block->at_grid_barrier = 0;
  }
  machine.waiting_at_grid_barrier = 0;
  machine.grid_phase ^= 1;
}

void run_cooperating_blocks(const std::vector<uint64_t>& numbers, const Settings& how) {
  std::vector<std::unique_ptr<Block>> blocks;
  for (uint64_t number : numbers) blocks.push_back(std::make_unique<Block>(machine.geometry, number));
  for (bool first = true; machine.error.empty(); first = false) {
    for (size_t i = 0; i < blocks.size() && machine.error.empty(); i++) {
      order_threads(numbers[i], how);
      machine.next_fresh = first ? 0 : machine.order.size();
      run_block(*blocks[i]);
    }
    if (!machine.error.empty() || !machine.waiting_at_grid_barrier) break;
    open_grid_barrier(blocks);
  }
  if (!machine.error.empty())
    for (auto& block : blocks) unwind(*block);
  rest_retired_fibers();
}

void check(const Geometry& g, const Settings& how) {
  const uint64_t threads = uint64_t{g.block.x} * g.block.y * g.block.z;
  if (!threads || threads > 1024 || g.block.z > 64) throw std::runtime_error("invalid block size");
  if (!g.grid.x || !g.grid.y || !g.grid.z || g.grid.x > 2147483647u || g.grid.y > 65535 || g.grid.z > 65535)
    throw std::runtime_error("invalid grid size");
  if (g.dynamic_shared > kSharedLimit)
    throw std::runtime_error(std::to_string(g.dynamic_shared) + " bytes of dynamic shared memory, at most " +
                             std::to_string(kSharedLimit));
  const uint64_t blocks = uint64_t{g.grid.x} * g.grid.y * g.grid.z;
  if (g.cooperative && blocks > static_cast<uint64_t>(how.multiprocessors))
    throw std::runtime_error("cooperative grid of " + std::to_string(blocks) + " blocks, at most " +
                             std::to_string(how.multiprocessors));
}

void run(const Geometry& geometry, void (*call)(void*), void* arg, const Settings& how) {
  check(geometry, how);
  Unobserved scope;  // the scheduler's own memory; the kernel's threads run on fibers that are observed
  machine.geometry = geometry;
  machine.call = call;
  machine.call_arg = arg;
  machine.error.clear();
  machine.waiting_at_grid_barrier = machine.grid_phase = 0;
  machine.current = &machine.main;
  adopt_os_thread(machine.main);
  gridDim = geometry.grid;
  blockDim = geometry.block;

  std::vector<uint64_t> numbers(uint64_t{gridDim.x} * gridDim.y * gridDim.z);
  std::iota(numbers.begin(), numbers.end(), uint64_t{0});
  if (how.order == Order::reverse) std::reverse(numbers.begin(), numbers.end());
  if (how.order == Order::random) std::shuffle(numbers.begin(), numbers.end(), std::mt19937(how.seed));

  release(&machine.launch_word);
  geometry.cooperative ? run_cooperating_blocks(numbers, how) : run_independent_blocks(numbers, how);
  acquire(&machine.end_word);
  machine.block = nullptr;
  machine.thread = nullptr;
  if (!machine.error.empty()) throw std::runtime_error(machine.error);
}

}  // namespace

void fail(std::string what) {
  Unobserved scope;
  if (machine.error.empty()) machine.error = std::move(what);
  throw Abort{};
}

void wait_as(State state, Site site) {
  Thread* self = machine.thread;
  self->state = state;
  self->site = site;
  go_to(&machine.main);
  enter(self);
  if (!machine.error.empty()) throw Abort{};
}

void launch_threads(const std::string& kernel, const Geometry& geometry, void (*call)(void*), void* arg) {
  static std::mutex one_launch_at_a_time;
  static thread_local bool inside = false;
  if (inside) throw std::runtime_error("CUDA kernel " + kernel + ": launched from inside a kernel");
  std::lock_guard lock(one_launch_at_a_time);
  inside = true;
  try {
    run(geometry, call, arg, settings());
    inside = false;
  } catch (const std::exception& error) {
    inside = false;
    throw std::runtime_error("CUDA kernel " + kernel + ": " + error.what());
  }
  count_launch(kernel);
}

}  // namespace hostsim
