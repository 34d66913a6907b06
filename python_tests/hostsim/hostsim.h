// SPDX-License-Identifier: MIT
// hostsim: runs CUDA C++ kernels on a CPU, every CUDA thread a fiber of its own, all of them on one OS thread.
//
// This header is what a test or a binding sees: how kernels run, and what has run. Kernels see cuda_names.h.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

namespace hostsim {

enum class Order { forward, reverse, random };

struct Settings {
  Order order = Order::forward;  // of the threads in a block and of the blocks in a grid
  unsigned seed = 1;             // of Order::random
  int multiprocessors = 4;       // a cooperative grid has at most that many blocks
};

// The settings of the launches to come. At first those of the environment variable POSEREN_HOSTSIM_ORDER:
// "forward", "reverse" or "random[:seed]".
Settings settings();
void set_settings(const Settings& settings);

// "forward", "reverse", "random" or "random:SEED" into `settings`; false when it is none of these.
bool parse_order(const std::string& text, Settings& settings);

// Launches of each kernel since the last reset, by the kernel's name without namespaces and template arguments.
std::map<std::string, uint64_t> launch_counts();
void reset_launch_counts();

inline constexpr size_t kStaticSharedLimit = 48 * 1024;  // bytes a block; a compile error under nvcc
inline constexpr size_t kSharedLimit = 227 * 1024;       // static and dynamic together, as on compute capability 9.0

}  // namespace hostsim
