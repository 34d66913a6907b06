// SPDX-License-Identifier: MIT
// A block's threads and its shared memory.
#include <algorithm>
#include <cstring>
#include <new>

#include "hostsim/hostsim.h"
#include "hostsim/sanitizer.h"
#include "hostsim/state.h"

namespace hostsim {
namespace {

constexpr size_t kDynamicAlignment = 128;  // as cuda/launch.h declares it to nvcc

SharedVariable make_shared_variable(const void* key, size_t size, size_t alignment) {
  alignment = std::max(alignment, size_t{16});
  void* bytes = nullptr;  // not aligned_alloc: that rounds the size up, and hides an overrun of the odd bytes
  if (posix_memalign(&bytes, alignment, size)) throw std::bad_alloc();
  if (bytes) std::memset(bytes, 0xff, size);
  return {key, {bytes, &std::free}};
}

}  // namespace

Block::Block(const Geometry& geometry, uint64_t number)
    : threads(size_t{geometry.block.x} * geometry.block.y * geometry.block.z),
      warps((threads.size() + 31) / 32),
      dynamic_shared(make_shared_variable(nullptr, geometry.dynamic_shared, kDynamicAlignment)) {
  const dim3 &grid = geometry.grid, &block = geometry.block;
  index = {static_cast<unsigned>(number % grid.x), static_cast<unsigned>(number / grid.x % grid.y),
           static_cast<unsigned>(number / grid.x / grid.y)};
  for (unsigned rank = 0; rank < threads.size(); rank++) {
    threads[rank].rank = rank;
    threads[rank].index = {rank % block.x, rank / block.x % block.y, rank / block.x / block.y};
    warps[rank / 32].live |= 1u << rank % 32;
  }
}

void* static_shared_bytes(const void* key, size_t size, size_t alignment) {
  Unobserved scope;
  Block& block = *machine.block;
  for (const SharedVariable& variable : block.shared)
    if (variable.key == key) return variable.bytes.get();
  block.static_shared_bytes += size;
  if (block.static_shared_bytes > kStaticSharedLimit)
    fail(std::to_string(block.static_shared_bytes) + " bytes of static shared memory, at most " +
         std::to_string(kStaticSharedLimit));
  if (block.static_shared_bytes + machine.geometry.dynamic_shared > kSharedLimit)
    fail(std::to_string(block.static_shared_bytes) + " bytes of static and " +
         std::to_string(machine.geometry.dynamic_shared) + " of dynamic shared memory, together at most " +
         std::to_string(kSharedLimit));
  block.shared.push_back(make_shared_variable(key, size, alignment));
  return block.shared.back().bytes.get();
}

void* dynamic_shared_bytes() {
  return machine.block->dynamic_shared.bytes.get();
}

}  // namespace hostsim
