// SPDX-License-Identifier: MIT
// Drives the core's maths with torch's threads.
#pragma once

#include <torch/csrc/stable/c/shim.h>

#include <cstdint>
#include <exception>
#include <stdexcept>

namespace poseren::cpu {

// body(begin, end) over disjoint ranges that cover [0, count); at least `grain` items a thread.
template <class Body>
void parallel_ranges(int64_t count, int64_t grain, const Body& body) {
  if (count <= 0) return;
  auto call = [](int64_t begin, int64_t end, void* context) { (*static_cast<const Body*>(context))(begin, end); };
  if (torch_parallel_for(0, count, grain, call, const_cast<void*>(static_cast<const void*>(&body))) != 0)
    throw std::runtime_error("poseren: the thread pool of torch reported an error");
}

// body(i) for every i in [0, count).
template <class Body>
void for_each(int64_t count, int64_t grain, const Body& body) {
  parallel_ranges(count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) body(i);
  });
}

}  // namespace poseren::cpu
