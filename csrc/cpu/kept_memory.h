// SPDX-License-Identifier: MIT
// Memory of large results, kept when they are gone for the next ones of that size: those are written to a place that
// the caches still hold. torch's allocator seldom gives the same one again, and what it gets anew the system clears
// first, page by page.
#pragma once

#include <cstdint>

namespace poseren::cpu {

// Whether blocks of that many bytes are kept. Throws std::runtime_error when POSEREN_KEPT_MIB is not a number.
bool keeps(int64_t bytes);

void* take_memory(int64_t bytes);  // throws std::bad_alloc
void give_memory(void* place, int64_t bytes) noexcept;

// Gives all that is kept back to the system and says how many bytes that were.
__attribute__((visibility("default"))) int64_t release_memory() noexcept;

}  // namespace poseren::cpu
