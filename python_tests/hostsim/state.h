// SPDX-License-Identifier: MIT
// The state of the launch that is running: its threads, blocks, and who waits for what.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "hostsim/fiber.h"
#include "hostsim/runtime.h"

namespace hostsim {

enum class State : unsigned char { fresh, ready, at_block_barrier, at_warp, at_grid_barrier, done };

struct Thread {
  uint3 index{};
  unsigned rank = 0;
  State state = State::fresh;
  Fiber* fiber = nullptr;
  Site site{};          // where it waits
  uint64_t result = 0;  // of the warp collective or of the barrier's vote that it waited for
  unsigned warp_phase = 0;
};

// A warp operation that some of its lanes have not reached yet.
struct Collective {
  unsigned mask, arrived;
  WarpOp op;
  Site site;
  uint64_t value[32];
  unsigned source_lane[32];
};

struct Warp {
  unsigned live = 0;  // lanes that have not returned
  unsigned open = 0;  // unfinished collectives; their masks are disjoint, so there are 32 at most
  std::unique_ptr<Collective[]> collectives{new Collective[32]};
  char sync_word[2] = {};  // orders memory for the race detector: one for every other __syncwarp
};

// One heap block per variable, of exactly its size, so that AddressSanitizer guards both ends.
struct SharedVariable {
  const void* key;
  std::unique_ptr<void, decltype(&std::free)> bytes;
};

struct Block {
  Block(const Geometry& geometry, uint64_t number);

  uint3 index{};
  std::vector<Thread> threads;
  std::vector<Warp> warps;
  unsigned done = 0;

  unsigned at_block_barrier = 0, votes = 0, phase = 0;
  Site block_barrier_site{};
  char sync_word[2] = {};
  unsigned at_grid_barrier = 0;

  std::vector<SharedVariable> shared;
  SharedVariable dynamic_shared;
  size_t static_shared_bytes = 0;
};

struct Machine {
  Geometry geometry;
  void (*call)(void*) = nullptr;
  void* call_arg = nullptr;

  Block* block = nullptr;  // whose turn it is
  Thread* thread = nullptr;
  std::vector<unsigned> order;  // of the block's threads, by rank
  size_t next_fresh = 0;        // in `order`: these have not begun
  Site grid_barrier_site{};
  unsigned waiting_at_grid_barrier = 0;
  unsigned grid_phase = 0;
  std::string error;  // of the first thread that failed

  Fiber main;
  Fiber* current = nullptr;
  std::vector<std::unique_ptr<Fiber>> fibers;
  std::vector<Fiber*> idle;
  std::vector<Fiber*> retired, resting;  // race detector only: ran threads of this block, of the last block

  char launch_word = 0, end_word = 0, grid_word[2] = {};
};
extern Machine machine;

// Stops the calling thread until something makes it ready.
void wait_as(State state, Site site);

// Complete what waits only for threads that have returned by now.
void finish_block_barrier();
void finish_collectives(unsigned warp);

std::string describe(const Thread& thread);
std::string describe(const Site& site);
bool same(const Site& a, const Site& b);

void count_launch(const std::string& kernel);

}  // namespace hostsim
