// SPDX-License-Identifier: MIT
#include <algorithm>

#include "core/kernels.h"
#include "cpu/isa/kernels.h"
#include "cpu/work_stealing_range.h"

namespace poseren::cpu {
namespace {

constexpr int64_t kUnits = 16;       // per thread, so that a delayed thread leaves little work to the others
constexpr int64_t kFewestRows = 16;  // per unit, so that preparing a crop pays

}  // namespace

void run(const DepthCrop& p, Queue) {
  const int64_t size = p.geometry.size, rows = p.depth.batch * size;
  WorkStealingRange units;
  const int64_t unit = std::min(size, std::max(kFewestRows, rows / (units.threads() * kUnits)));
  on_best_isa([&]<class Isa>(Isa) {
    units.run((rows + unit - 1) / unit,
              [&](int64_t i) { depth_crop_rows<Isa>(p, i * unit, std::min(rows, (i + 1) * unit)); });
  });
}

}  // namespace poseren::cpu
