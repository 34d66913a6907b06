// SPDX-License-Identifier: MIT
#pragma once

#include <algorithm>
#include <atomic>
#include <memory>

#include "cpu/parallel.h"

namespace poseren::cpu {

// Runs units of work on all threads. Each thread takes the units of its own range in order, so that what it prefetches
// is its next unit; a thread that is done takes units from the ranges of the others.
class WorkStealingRange {
 public:
  WorkStealingRange() : threads_(count_threads()), next_(std::make_unique<Next[]>(threads_)) {}

  int64_t threads() const { return threads_; }

  // body(unit) for every unit in [0, count).
  template <class Body>
  void run(int64_t count, const Body& body) {
    if (count == 1) return body(0);
    for (int64_t thread = 0; thread < threads_; thread++) next_[thread].unit = bound(thread, count);
    parallel_ranges(threads_, 1, [&](int64_t begin, int64_t end) {
      for (int64_t thread = begin; thread < end; thread++)
        for (int64_t i = 0; i < threads_; i++) finish((thread + i) % threads_, count, body);
    });
  }

 private:
  struct alignas(64) Next {  // a cache line each: no false sharing
    std::atomic<int64_t> unit;
  };

  static int64_t count_threads() {
    uint32_t threads = 1;
    torch_get_num_threads(&threads);
    return std::max<int64_t>(threads, 1);
  }
  int64_t bound(int64_t thread, int64_t count) const { return count * thread / threads_; }

  template <class Body>
  void finish(int64_t owner, int64_t count, const Body& body) {
    const int64_t end = bound(owner + 1, count);
    for (int64_t unit; (unit = next_[owner].unit.fetch_add(1, std::memory_order_relaxed)) < end;) body(unit);
  }

  int64_t threads_;
  std::unique_ptr<Next[]> next_;
};

}  // namespace poseren::cpu
