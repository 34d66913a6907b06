// SPDX-License-Identifier: MIT
// Chooses the instruction set of the vector kernels at run time.
//
// Each csrc/cpu/isa/*.cpp is compiled once per instruction set (cmake/isa.cmake). Its header declares templates, which
// the file defines as explicit specialisations for the tag POSEREN_ISA. Call a kernel like this:
//   on_best_isa([&]<class Isa>(Isa) { depth_crop_rows<Isa>(p, begin, end); });
// Those files must not emit functions that other files also emit: the linker keeps one copy of an inline function,
// perhaps the one that needs AVX-512. So core's functions are always inlined there (POSEREN_HD), helpers are in
// anonymous namespaces, and standard containers are not used.
#pragma once

namespace poseren::cpu {

struct baseline {};
struct avx2 {};
struct avx512 {};

enum class Isa { baseline, avx2, avx512, avx512vnni };  // avx512vnni: avx512 and cpu/isa/fixed_point.cpp

// The best instruction set of this machine, or the one that the environment variable POSEREN_ISA names; decided at the
// first call. Throws std::runtime_error if the variable names an unknown set or one that this machine lacks.
Isa isa();

// Its name, for reports and tests.
__attribute__((visibility("default"))) const char* isa_name();

// True if L2 bandwidth saturates the FMA units (measured on Zen 4, whose 512-bit operations take 2 cycles); then
// blocking for the L1 cache does not pay.
bool l2_feeds_fma_units();

template <class Call>
void on_best_isa(Call&& call) {
  switch (isa()) {
#ifdef POSEREN_X86
    case Isa::avx512vnni:
    case Isa::avx512:
      return call(avx512{});
    case Isa::avx2:
      return call(avx2{});
#endif
    default:
      return call(baseline{});
  }
}

}  // namespace poseren::cpu
