// SPDX-License-Identifier: MIT
// The kernels that hostsim is tested with.
#pragma once

#include <functional>
#include <map>
#include <string>

namespace hostsim_tests {

// Correct kernels: each returns what is wrong with its results, or nothing.
std::map<std::string, std::function<std::string()>> checks();

// Deliberate faults. Each works on 65 floats, x[i] = i for i < 64, the last one out of bounds for kernels.
std::map<std::string, std::function<void(float* x)>> faults();

void run_barriers(int grid, int block, int barriers);

}  // namespace hostsim_tests
