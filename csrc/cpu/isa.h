// SPDX-License-Identifier: MIT
// Chooses the instruction set of the vector kernels when the program runs.
//
// Each csrc/cpu/isa/*.cpp is compiled once per instruction set (cmake/isa.cmake) and defines there, as explicit
// specialisations for the tag POSEREN_ISA, the templates that its header declares. A kernel is called so:
//   on_best_isa([&]<class Isa>(Isa) { depth_crop_rows<Isa>(body, begin, end); });
// Code shared with the baseline must not be emitted as a function of its own in those files: the linker keeps one copy
// of an inline function, maybe the one that needs AVX-512. Hence core's functions are always inlined there
// (POSEREN_HD), helpers go in anonymous namespaces, and containers of the standard library stay out.
#pragma once

#include <utility>

namespace poseren::cpu {

struct baseline {};
struct avx2 {};
struct avx512 {};
struct avx512vnni {};

enum class Isa { baseline, avx2, avx512, avx512vnni };

// The best set of this machine, or the one that the environment variable POSEREN_ISA names; decided at the first call.
// Throws std::runtime_error when the variable names none, or one that this machine has not got.
Isa isa();

// Its name; for reports and tests.
__attribute__((visibility("default"))) const char* isa_name();

// Whether a processor's vector units take no more than its second-level cache gives: of AMD's with AVX-512 instructions
// (measured on Zen 4, which needs two cycles for each). Others work on what is in the first-level cache.
bool second_level_cache_suffices();

template <class Call>
void on_best_isa(Call&& call) {
  switch (isa()) {
#ifdef POSEREN_X86
    case Isa::avx512vnni:
      return call(avx512vnni{});
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
