// SPDX-License-Identifier: MIT
// Settings, the registry of kernels that ran, the names in reports, and the C functions that scripts call.
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <stdexcept>

#include "hostsim/hostsim.h"
#include "hostsim/state.h"

namespace hostsim {
namespace {

std::mutex guard;
std::map<std::string, uint64_t> counts;

Settings from_environment() {
  Settings result;
  const char* order = std::getenv("POSEREN_HOSTSIM_ORDER");
  if (order && !parse_order(order, result))
    throw std::invalid_argument(std::string("POSEREN_HOSTSIM_ORDER=") + order +
                                ": expected forward, reverse, random or random:SEED");
  return result;
}

Settings& current_settings() {
  static Settings current = from_environment();
  return current;
}

std::string describe(const uint3& index) {
  return "(" + std::to_string(index.x) + "," + std::to_string(index.y) + "," + std::to_string(index.z) + ")";
}

}  // namespace

bool parse_order(const std::string& text, Settings& result) {
  if (text == "forward" || text == "reverse") {
    result.order = text == "forward" ? Order::forward : Order::reverse;
    return true;
  }
  if (!text.starts_with("random")) return false;
  const char* end = text.data() + text.size();
  unsigned seed = result.seed;
  if (text.size() > 6) {
    const auto parsed = std::from_chars(text.data() + 7, end, seed);
    if (text[6] != ':' || parsed.ec != std::errc() || parsed.ptr != end) return false;
  }
  result.order = Order::random;
  result.seed = seed;
  return true;
}

Settings settings() {
  std::lock_guard lock(guard);
  return current_settings();
}

void set_settings(const Settings& settings) {
  std::lock_guard lock(guard);
  current_settings() = settings;
}

void count_launch(const std::string& kernel) {
  std::lock_guard lock(guard);
  counts[kernel]++;
}

std::map<std::string, uint64_t> launch_counts() {
  std::lock_guard lock(guard);
  return counts;
}

void reset_launch_counts() {
  std::lock_guard lock(guard);
  counts.clear();
}

std::string describe(const Thread& thread) {
  return "block " + describe(machine.block->index) + " thread " + describe(thread.index);
}

std::string describe(const Site& site) {
  return std::string(site.file_name()) + ":" + std::to_string(site.line()) + ":" + std::to_string(site.column());
}

}  // namespace hostsim

// For ctypes and the like, in the library that holds the kernels.
extern "C" {

// Returns 0, or -1 when `order` is none of "forward", "reverse", "random", "random:SEED".
__attribute__((visibility("default"))) int hostsim_set_order(const char* order) {
  hostsim::Settings changed = hostsim::settings();
  if (!hostsim::parse_order(order, changed)) return -1;
  hostsim::set_settings(changed);
  return 0;
}

// One line "name count" for each kernel that has run. Writes at most `size` bytes, the last of them 0; returns the
// bytes needed.
__attribute__((visibility("default"))) size_t hostsim_launch_counts(char* text, size_t size) {
  std::string all;
  for (const auto& [name, count] : hostsim::launch_counts()) all += name + " " + std::to_string(count) + "\n";
  if (size) std::snprintf(text, size, "%s", all.c_str());
  return all.size() + 1;
}

__attribute__((visibility("default"))) void hostsim_reset_launch_counts() {
  hostsim::reset_launch_counts();
}

}  // extern "C"
