// SPDX-License-Identifier: MIT
// Barriers, and the operations that a warp's lanes do together.
#include <algorithm>
#include <cstring>

#include "hostsim/sanitizer.h"
#include "hostsim/state.h"

namespace hostsim {

bool same(const Site& a, const Site& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

// ---- __syncthreads
void finish_block_barrier() {
  Block& block = *machine.block;
  if (!block.at_block_barrier || block.at_block_barrier + block.done != block.threads.size()) return;
  if (block.done)
    fail("__syncthreads at " + describe(block.block_barrier_site) + ": " + std::to_string(block.done) +
         " thread(s) of the block had already returned");
  for (Thread& thread : block.threads) {
    thread.result = block.votes;
    thread.state = State::ready;
  }
  block.at_block_barrier = block.votes = 0;
  block.phase ^= 1;
}

int block_barrier(int vote, Site site) {
  Block& block = *machine.block;
  Thread* self = machine.thread;
  if (!block.at_block_barrier) block.block_barrier_site = site;
  if (!same(block.block_barrier_site, site))
    fail("__syncthreads at " + describe(site) + " by " + describe(*self) + ", but other threads wait at " +
         describe(block.block_barrier_site));
  char* word = &block.sync_word[block.phase];
  release(word);
  block.votes += static_cast<unsigned>(vote);
  block.at_block_barrier++;
  self->state = State::at_block_barrier;
  self->site = site;
  finish_block_barrier();
  if (self->state == State::at_block_barrier) wait_as(State::at_block_barrier, site);
  acquire(word);
  return static_cast<int>(self->result);
}

// ---- the grid barrier: the scheduler completes it when all blocks wait for it
void grid_barrier(Site site) {
  if (!machine.geometry.cooperative) fail("grid barrier at " + describe(site) + " outside a cooperative launch");
  if (!machine.waiting_at_grid_barrier) machine.grid_barrier_site = site;
  if (!same(machine.grid_barrier_site, site))
    fail("grid barrier at " + describe(site) + " by " + describe(*machine.thread) + ", but other threads wait at " +
         describe(machine.grid_barrier_site));
  char* word = &machine.grid_word[machine.grid_phase];
  release(word);
  machine.waiting_at_grid_barrier++;
  machine.block->at_grid_barrier++;
  wait_as(State::at_grid_barrier, site);
  acquire(word);
}

// ---- warp collectives
namespace {

// Of the lanes that take part, in lane order.
uint64_t reduce(const Collective& c) {
  int64_t all = 0;
  bool first = true;
  for (unsigned l = 0; l < 32; l++) {
    if (!(c.arrived >> l & 1)) continue;
    const auto value = static_cast<int64_t>(c.value[l]);  // 32-bit integers of either sign
    switch (c.op) {
      case WarpOp::ballot:
        all |= int64_t{value != 0} << l;
        break;
      case WarpOp::add:
        all += value;
        break;
      case WarpOp::min:
        all = first ? value : std::min(all, value);
        break;
      case WarpOp::max:
        all = first ? value : std::max(all, value);
        break;
      case WarpOp::sync:
      case WarpOp::shuffle:
      case WarpOp::match_any:
      case WarpOp::together:
        break;
    }
    first = false;
  }
  return static_cast<uint64_t>(all);
}

uint64_t result_for(const Collective& c, unsigned lane, const Thread& thread, uint64_t reduced) {
  if (c.op == WarpOp::shuffle) {
    const unsigned source = c.source_lane[lane];
    if (!(c.arrived >> source & 1))
      fail("shuffle at " + describe(c.site) + ": " + describe(thread) + " reads lane " + std::to_string(source) +
           ", which takes no part");
    return c.value[source];
  }
  if (c.op == WarpOp::match_any) {
    uint64_t equal = 0;
    for (unsigned l = 0; l < 32; l++)
      if ((c.arrived >> l & 1) && c.value[l] == c.value[lane]) equal |= uint64_t{1} << l;
    return equal;
  }
  return reduced;
}

void run_tasks(const Collective& c) {
  if (c.arrived != 0xffffffffu)
    fail("warp-wide operation at " + describe(c.site) + ": lanes of the warp have returned, or never were");
  WarpTask* tasks[32];
  for (unsigned l = 0; l < 32; l++) tasks[l] = reinterpret_cast<WarpTask*>(c.value[l]);
  tasks[0]->run(tasks);
}

Collective& join(Warp& warp, WarpOp op, unsigned mask, const Thread& self, const Site& site) {
  for (unsigned k = 0; k < warp.open; k++) {
    Collective& c = warp.collectives[k];
    if (!(c.mask & mask)) continue;
    if (c.mask != mask)
      fail("warp operation at " + describe(site) + " by " + describe(self) + ": its mask overlaps that of the one at " +
           describe(c.site));
    if (c.op != op || !same(c.site, site))
      fail("warp operation at " + describe(site) + " by " + describe(self) + " meets another at " + describe(c.site));
    return c;
  }
  Collective& c = warp.collectives[warp.open++];
  c.mask = mask;
  c.arrived = 0;
  c.op = op;
  c.site = site;
  return c;
}

}  // namespace

void finish_collectives(unsigned number) {
  Block& block = *machine.block;
  Warp& warp = block.warps[number];
  for (unsigned k = 0; k < warp.open;) {
    Collective& c = warp.collectives[k];
    if ((c.mask & warp.live) != c.arrived) {
      k++;
      continue;
    }
    if (c.op == WarpOp::together) run_tasks(c);
    const uint64_t reduced = reduce(c);
    for (unsigned l = 0; l < 32; l++) {
      if (!(c.arrived >> l & 1)) continue;
      Thread& thread = block.threads[number * 32 + l];
      thread.result = result_for(c, l, thread, reduced);
      thread.state = State::ready;
    }
    if (k != --warp.open) c = warp.collectives[warp.open];
  }
}

uint64_t warp_collective(WarpOp op, unsigned mask, uint64_t value, unsigned source_lane, Site site) {
  Thread* self = machine.thread;
  const unsigned number = self->rank / 32, lane = self->rank % 32;
  Warp& warp = machine.block->warps[number];
  if (!(mask >> lane & 1))
    fail("warp operation at " + describe(site) + ": " + describe(*self) + " is not in its own mask");
  Collective& c = join(warp, op, mask, *self, site);
  c.arrived |= 1u << lane;
  c.value[lane] = value;
  c.source_lane[lane] = source_lane;
  char* word = &warp.sync_word[self->warp_phase];
  if (op == WarpOp::sync) {  // shuffles and votes order no memory
    release(word);
    self->warp_phase ^= 1;
  }
  self->state = State::at_warp;
  self->site = site;
  finish_collectives(number);
  if (self->state == State::at_warp) wait_as(State::at_warp, site);
  if (op == WarpOp::sync) acquire(word);
  return self->result;
}

void run_together(WarpTask& task, Site site) {
  warp_collective(WarpOp::together, 0xffffffffu, reinterpret_cast<uintptr_t>(&task), 0, site);
}

int lane() {
  return static_cast<int>(machine.thread->rank % 32);
}

}  // namespace hostsim
