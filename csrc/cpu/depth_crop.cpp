// SPDX-License-Identifier: MIT
#include "cpu/depth_crop.h"

#include "cpu/isa/depth_crop.h"
#include "cpu/parallel.h"

namespace poseren::cpu {

void run(const DepthCrop& body, Queue) {
  on_best_isa([&]<class Isa>(Isa) {
    parallel_ranges(body.depth.batch * body.geometry.size, 32,
                    [&](int64_t first, int64_t last) { depth_crop_rows<Isa>(body, first, last); });
  });
}

}  // namespace poseren::cpu
