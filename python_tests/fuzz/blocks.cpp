// SPDX-License-Identifier: MIT
// For the fuzzer: counts how often each basic block of the ops library runs, in the tables that libFuzzer reads. The
// compiler calls the hook at the start of every block (-fsanitize-coverage=trace-pc, which gcc and clang have).
#include <cstddef>
#include <cstdint>

namespace {

constexpr int kBits = 16;
constexpr size_t kBlocks = size_t{1} << kBits;

struct Block {
  uintptr_t address, flags;
};

uint8_t counters[kBlocks];
Block blocks[kBlocks];  // libFuzzer wants one for each counter; the addresses are for people and may be left out

}  // namespace

extern "C" {

// Two blocks may share a counter, and two threads may lose a count: the fuzzer is guided a little worse, no more.
__attribute__((visibility("hidden"))) void __sanitizer_cov_trace_pc() {
  const uintptr_t offset =
      reinterpret_cast<uintptr_t>(__builtin_return_address(0)) - reinterpret_cast<uintptr_t>(blocks);
  uint8_t& counter = counters[(uint64_t{offset} * 0x9E3779B97F4A7C15u) >> (64 - kBits)];
  if (counter < UINT8_MAX) counter++;
}

// The tables, and how many entries each has.
__attribute__((visibility("default"))) size_t poseren_coverage(uint8_t** counters_begin, Block** blocks_begin) {
  *counters_begin = counters;
  *blocks_begin = blocks;
  return kBlocks;
}
}
