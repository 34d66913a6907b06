// SPDX-License-Identifier: MIT
#pragma once

#include "core/hand_center.h"
#include "cpu/isa.h"

namespace poseren::cpu {

// The centres of the samples first..last (half open).
template <class Isa>
void hand_center_samples(const HandCenter& p, int64_t first, int64_t last);

}  // namespace poseren::cpu
