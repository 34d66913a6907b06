// SPDX-License-Identifier: MIT
#include "core/kernels.h"
#include "cpu/isa/kernels.h"
#include "cpu/parallel.h"

namespace poseren::cpu {

int64_t scratch_bytes(const HandCenter&, Queue) {
  return 0;
}

void run(const HandCenter& p, Queue) {
  on_best_isa([&]<class Isa>(Isa) {
    parallel_ranges(p.depth.batch, 1, [&](int64_t first, int64_t last) { hand_center_samples<Isa>(p, first, last); });
  });
}

}  // namespace poseren::cpu
