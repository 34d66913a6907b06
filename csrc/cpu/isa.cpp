// SPDX-License-Identifier: MIT
#include "cpu/isa.h"

#include <cstdlib>
#include <stdexcept>
#include <string>

namespace poseren::cpu {

namespace {

constexpr const char* kNames[] = {"baseline", "avx2", "avx512", "avx512vnni"};

bool has(Isa isa) {
#ifdef POSEREN_X86
  const bool has_avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  if (isa == Isa::avx2) return has_avx2;
  const bool has_avx512 = has_avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                          __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (isa == Isa::avx512) return has_avx512;
  if (isa == Isa::avx512vnni) return has_avx512 && __builtin_cpu_supports("avx512vnni");
#endif
  return isa == Isa::baseline;
}

Isa choose() {
  const char* wanted = std::getenv("POSEREN_ISA");
  std::string available;
  Isa best = Isa::baseline;
  for (Isa isa : {Isa::baseline, Isa::avx2, Isa::avx512, Isa::avx512vnni}) {
    if (!has(isa)) continue;
    best = isa;
    const char* name = kNames[static_cast<int>(isa)];
    if (wanted && std::string(wanted) == name) return isa;
    available += std::string(" ") + name;
  }
  if (wanted && *wanted)
    throw std::runtime_error("poseren: POSEREN_ISA is '" + std::string(wanted) + "'; this machine has" + available +
                             ". Unset the variable to use the best of them");
  return best;
}

}  // namespace

Isa isa() {
  static const Isa chosen = choose();
  return chosen;
}

const char* isa_name() {
  return kNames[static_cast<int>(isa())];
}

bool l2_feeds_fma_units() {
#ifdef POSEREN_X86
  return isa() >= Isa::avx512 && __builtin_cpu_is("amd");
#else
  return false;
#endif
}

}  // namespace poseren::cpu
