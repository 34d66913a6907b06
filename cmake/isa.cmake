# SPDX-License-Identifier: MIT
# csrc/cpu/isa/*.cpp is compiled once for each instruction set and chosen at run time (csrc/cpu/isa.h).
# Each copy lives in a namespace of its own (POSEREN_ISA), so that no inline function of a newer set can stand in for
# the baseline's at link time.
file(GLOB isa_sources CONFIGURE_DEPENDS csrc/cpu/isa/*.cpp)
set(isa_list baseline)
set(isa_flags_baseline "")
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  list(APPEND isa_list avx2 avx512 avx512vnni)
  set(isa_flags_avx2 -mavx2 -mfma -mf16c)
  set(isa_flags_avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mprefer-vector-width=512)
  set(isa_flags_avx512vnni ${isa_flags_avx512} -mavx512vnni)
  target_compile_definitions(poseren_ops PRIVATE POSEREN_X86)
endif()
foreach(isa IN LISTS isa_list)
  if(isa_sources)
    add_library(poseren_${isa} OBJECT ${isa_sources})
    target_link_libraries(poseren_${isa} PRIVATE poseren_flags torch_stable)
    # Nobody reads the floating-point exception flags; minding them keeps conditional sums from being vectorised.
    target_compile_options(poseren_${isa} PRIVATE ${isa_flags_${isa}} -O3 -fno-trapping-math ${coverage_flags})
    target_compile_definitions(poseren_${isa} PRIVATE POSEREN_ISA=${isa})
    target_sources(poseren_ops PRIVATE $<TARGET_OBJECTS:poseren_${isa}>)
  endif()
endforeach()
