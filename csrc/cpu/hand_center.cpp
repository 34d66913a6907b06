// SPDX-License-Identifier: MIT
#include "cpu/hand_center.h"

#include "cpu/isa/hand_center.h"
#include "cpu/parallel.h"

namespace poseren::cpu {

void run(const HandCenter& body, Queue) {
  on_best_isa([&]<class Isa>(Isa) {
    parallel_ranges(body.depth.batch, 1,
                    [&](int64_t first, int64_t last) { hand_center_samples<Isa>(body, first, last); });
  });
}

}  // namespace poseren::cpu
