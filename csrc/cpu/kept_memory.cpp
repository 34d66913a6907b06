// SPDX-License-Identifier: MIT
#include "cpu/kept_memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdlib>
#include <mutex>
#include <new>
#include <stdexcept>
#include <string>
#include <thread>

namespace poseren::cpu {
namespace {

constexpr int64_t kPage = 4096, kHugePage = int64_t{2} << 20;
constexpr int64_t kLeastBlock = int64_t{1} << 20;  // bytes that are worth keeping
constexpr int64_t kMostKept = int64_t{256} << 20;  // bytes, about what torch itself takes up
constexpr int kMostBlocks = 16;
constexpr int kTries = 1000;

// The bytes to keep at most, unless the environment variable says otherwise.
int64_t most_kept() {
  const char* wanted = std::getenv("POSEREN_KEPT_MIB");
  if (!wanted || !*wanted) return kMostKept;
  char* end = nullptr;
  const long mib = std::strtol(wanted, &end, 10);
  if (*end || mib < 0 || mib > 1 << 20)
    throw std::runtime_error("poseren: POSEREN_KEPT_MIB is '" + std::string(wanted) +
                             "'; expected a whole number of MiB, 0 to keep no memory of results");
  return mib << 20;
}

void* new_memory(int64_t bytes) {
  void* place = nullptr;
  if (posix_memalign(&place, bytes < kHugePage ? kPage : kHugePage, bytes) != 0) throw std::bad_alloc();
#ifdef MADV_HUGEPAGE
  madvise(place, bytes / kHugePage * kHugePage, MADV_HUGEPAGE);  // a wish: where it is not granted, all works as well
#endif
  return place;
}

// Free blocks, the one given back first in front.
class KeptMemory {
 public:
  void* take(int64_t bytes) noexcept {
    const Hold hold(*this);
    if (!hold) return nullptr;
    for (int i = count_ - 1; i >= 0; i--)
      if (blocks_[i].bytes == bytes) return remove(i).place;
    return nullptr;
  }

  bool give(void* place, int64_t bytes, int64_t most) noexcept {
    const Hold hold(*this);
    if (!hold) return false;
    while (count_ == kMostBlocks || held_ + bytes > most) std::free(remove(0).place);
    blocks_[count_++] = {place, bytes};
    held_ += bytes;
    return true;
  }

  int64_t release() noexcept {
    Hold hold(*this);
    for (int tries = 0; !hold && tries < kTries; tries++) {
      std::this_thread::yield();
      hold.try_lock();
    }
    const int64_t bytes = hold ? held_ : 0;
    while (hold && count_) std::free(remove(0).place);
    return bytes;
  }

 private:
  struct Block {
    void* place;
    int64_t bytes;
  };
  // Tried, not waited for: in a process that was forked while another thread held it, nobody lets go of it any more.
  struct Hold : std::unique_lock<std::mutex> {
    explicit Hold(KeptMemory& memory) : std::unique_lock<std::mutex>(memory.mutex_, std::try_to_lock) {}
  };

  Block remove(int i) noexcept {
    const Block block = blocks_[i];
    std::copy(blocks_ + i + 1, blocks_ + count_--, blocks_ + i);
    held_ -= block.bytes;
    return block;
  }

  std::mutex mutex_;
  Block blocks_[kMostBlocks];
  int count_ = 0;
  int64_t held_ = 0;  // bytes
};

// Never destroyed: results may outlive everything else.
KeptMemory& kept() {
  static KeptMemory& memory = *new KeptMemory;
  return memory;
}

int64_t whole_pages(int64_t bytes) {
  return (bytes + kPage - 1) / kPage * kPage;
}

int64_t limit() {
  static const int64_t most = most_kept();
  return most;
}

}  // namespace

bool keeps(int64_t bytes) {
  return bytes >= kLeastBlock && whole_pages(bytes) <= limit();
}

void* take_memory(int64_t bytes) {
  void* place = kept().take(whole_pages(bytes));
  return place ? place : new_memory(whole_pages(bytes));
}

void give_memory(void* place, int64_t bytes) noexcept {
  if (!kept().give(place, whole_pages(bytes), limit())) std::free(place);
}

int64_t release_memory() noexcept {
  return kept().release();
}

}  // namespace poseren::cpu
