// SPDX-License-Identifier: MIT
// hostsim_driver check         runs the correct kernels; prints what is wrong, and what ran
// hostsim_driver fault NAME    runs one deliberate fault; exit status 3 when the runtime reports it
// hostsim_driver recover       correct kernels still run after faults that the runtime reports
// hostsim_driver threads       correct kernels from two OS threads at once
// hostsim_driver time          nanoseconds per thread: of a launch, of a barrier
#include <chrono>
#include <cmath>
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <thread>

#include "hostsim/hostsim.h"
#include "hostsim/tests/kernels.h"

namespace {

int check() {
  int wrong = 0;
  for (const auto& [name, run] : hostsim_tests::checks()) {
    const std::string report = run();
    if (report.empty()) continue;
    std::printf("%s: %s\n", name.c_str(), report.c_str());
    wrong++;
  }
  return wrong;
}

int fault(const std::string& name) {
  const std::unique_ptr<float[]> x(new float[64]);
  for (int i = 0; i < 64; i++) x[i] = static_cast<float>(i);
  try {
    hostsim_tests::faults().at(name)(x.get());
  } catch (const std::runtime_error& error) {
    std::printf("%s\n", error.what());
    return 3;
  }
  int not_numbers = 0;
  for (int i = 0; i < 64; i++) not_numbers += std::isnan(x[i]);
  std::printf("returned with %d NaN\n", not_numbers);
  return 0;
}

int recover() {
  int wrong = 0;
  for (const char* name : {"divergent_barrier", "early_return", "half_a_warp", "deadlock", "grid_barrier_early_return"})
    wrong += (fault(name) != 3) + check();
  return wrong;
}

int from_two_threads() {
  int wrong[2] = {};
  std::thread other([&] { wrong[1] = check(); });
  wrong[0] = check();
  other.join();
  return wrong[0] + wrong[1] + check();
}

void time_kernels() {
  const auto seconds = [] {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch());
  };
  constexpr int kThreads = 256, kBlocks = 4000, kBarriers = 100;
  for (const int barriers : {0, kBarriers}) {
    const int grid = barriers ? kBlocks / kBarriers : kBlocks;
    hostsim_tests::run_barriers(1, kThreads, 1);
    const auto start = seconds();
    hostsim_tests::run_barriers(grid, kThreads, barriers);
    std::printf("%s %.1f ns\n", barriers ? "thread and barrier" : "thread",
                1e9 * (seconds() - start).count() / (double{kThreads} * kBlocks));
  }
}

}  // namespace

int main(int argc, char** argv) {
  const std::string verb = argc > 1 ? argv[1] : "";
  int status = 2;
  if (verb == "check") status = check() != 0;
  if (verb == "fault" && argc == 3) status = fault(argv[2]);
  if (verb == "recover") status = recover() != 0;
  if (verb == "threads") status = from_two_threads() != 0;
  if (verb == "time") status = (time_kernels(), 0);
  for (const auto& [name, count] : hostsim::launch_counts())
    std::printf("ran %s %llu\n", name.c_str(), static_cast<unsigned long long>(count));
  return status;
}
