// SPDX-License-Identifier: MIT
#include "cpu/depth_crop.h"

#include <algorithm>

#include "cpu/isa/depth_crop.h"
#include "cpu/shared_units.h"

namespace poseren::cpu {

namespace {

constexpr int64_t kUnits = 16;       // for each thread, so that one that is held up leaves few to the others
constexpr int64_t kFewestRows = 16;  // of a unit: what a crop is prepared for is worth it

}  // namespace

void run(const DepthCrop& body, Queue) {
  const int64_t size = body.geometry.size, rows = body.depth.batch * size;
  SharedUnits units;
  const int64_t unit = std::min(size, std::max(kFewestRows, rows / (units.threads() * kUnits)));
  on_best_isa([&]<class Isa>(Isa) {
    units.run((rows + unit - 1) / unit,
              [&](int64_t i) { depth_crop_rows<Isa>(body, i * unit, std::min(rows, (i + 1) * unit)); });
  });
}

}  // namespace poseren::cpu
