// SPDX-License-Identifier: MIT
// Runs the core's maths on torch's threads.
#pragma once

#include <torch/csrc/stable/c/shim.h>

#include <atomic>
#include <cstdint>
#include <exception>
#include <stdexcept>

namespace poseren::cpu {

// body(begin, end) for disjoint ranges that cover [0, count), each of at least `grain` items. Rethrows the first
// exception of a body: torch's C interface would drop it and only report that something failed.
template <class Body>
void parallel_ranges(int64_t count, int64_t grain, const Body& body) {
  struct Call {
    const Body& body;
    std::atomic<bool> failed = false;
    std::exception_ptr error{};
  };
  if (count <= 0) return;
  const auto run = [](int64_t begin, int64_t end, void* context) {
    Call& call = *static_cast<Call*>(context);
    try {
      call.body(begin, end);
    } catch (...) {
      if (!call.failed.exchange(true)) call.error = std::current_exception();
    }
  };
  Call call{body};
  if (torch_parallel_for(0, count, grain, run, &call) != 0)
    throw std::runtime_error("poseren: torch could not run its thread pool");
  if (call.error) std::rethrow_exception(call.error);
}

// body(i) for every i in [0, count).
template <class Body>
void for_each(int64_t count, int64_t grain, const Body& body) {
  parallel_ranges(count, grain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; i++) body(i);
  });
}

}  // namespace poseren::cpu
