// SPDX-License-Identifier: MIT
#pragma once

#include "core/depth_crop.h"
#include "cpu/isa.h"

namespace poseren::cpu {

// The output rows first..last (half open) of all B*S rows.
template <class Isa>
void depth_crop_rows(const DepthCrop& p, int64_t first, int64_t last);

}  // namespace poseren::cpu
