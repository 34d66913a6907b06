// SPDX-License-Identifier: MIT
// The runtime functions that cuda_names.h and csrc/cuda/launch.h use.
#pragma once

#include <cstddef>
#include <cstdint>
#include <source_location>
#include <string>

#include "hostsim/cuda_types.h"

namespace hostsim {

using Site = std::source_location;  // file, line and column of a statement in a kernel
#define HOSTSIM_SITE ::hostsim::Site site = ::hostsim::Site::current()

// Aborts the launch: unwinds all its threads, and launch_threads throws.
[[noreturn]] void fail(std::string what);

// ---- called by a kernel's threads
int block_barrier(int vote, Site site);  // returns the sum of the block's votes
void grid_barrier(Site site);

enum class WarpOp { sync, shuffle, ballot, match_any, add, min, max, together };
uint64_t warp_collective(WarpOp op, unsigned mask, uint64_t value, unsigned source_lane, Site site);
int lane();

// For operations that the whole warp does as one: when all 32 lanes have come, one of them calls run(tasks), in lane
// order.
struct WarpTask {
  void (*run)(WarpTask* const* tasks);
};
void run_together(WarpTask& task, Site site);

// The block's copy of the variable that `key` stands for. Shared memory is full of 0xff at first: NaN in every float
// format.
void* static_shared_bytes(const void* key, size_t size, size_t alignment);
void* dynamic_shared_bytes();

// ---- called by the host
struct Geometry {
  dim3 grid, block;
  size_t dynamic_shared = 0;
  bool cooperative = false;
};
// Calls call(arg) once for each thread of the grid; returns when all have returned. Throws std::runtime_error.
void launch_threads(const std::string& kernel, const Geometry& geometry, void (*call)(void*), void* arg);

}  // namespace hostsim
