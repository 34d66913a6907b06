# SPDX-License-Identifier: MIT
# csrc/cpu/isa/*.cpp is compiled once per instruction set; csrc/cpu/isa.h chooses one at run time. Every copy defines
# template specialisations for its own tag (POSEREN_ISA) and keeps helpers in anonymous namespaces, so that the linker
# never replaces a baseline function by one that needs AVX-512.
file(GLOB isa_sources CONFIGURE_DEPENDS csrc/cpu/isa/*.cpp)
set(fixed_point_source ${CMAKE_CURRENT_SOURCE_DIR}/csrc/cpu/isa/fixed_point.cpp)
list(REMOVE_ITEM isa_sources ${fixed_point_source})

function(add_isa isa)
  cmake_parse_arguments(arg "" "" "SOURCES;FLAGS" ${ARGN})
  add_library(poseren_${isa} OBJECT ${arg_SOURCES})
  target_link_libraries(poseren_${isa} PRIVATE poseren_flags torch_stable)
  # -fno-trapping-math: nothing reads the floating-point exception flags, and keeping them prevents the vectorisation of
  # conditional sums.
  target_compile_options(poseren_${isa} PRIVATE ${arg_FLAGS} -O3 -fno-trapping-math ${coverage_flags})
  target_compile_definitions(poseren_${isa} PRIVATE POSEREN_ISA=${isa})
  target_sources(poseren_ops PRIVATE $<TARGET_OBJECTS:poseren_${isa}>)
endfunction()

add_isa(baseline SOURCES ${isa_sources})
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64")
  target_compile_definitions(poseren_ops PRIVATE POSEREN_X86)
  set(avx512 -mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -mprefer-vector-width=512)
  add_isa(avx2 SOURCES ${isa_sources} FLAGS -mavx2 -mfma -mf16c)
  add_isa(avx512 SOURCES ${isa_sources} FLAGS ${avx512})
  add_isa(avx512vnni SOURCES ${fixed_point_source} FLAGS ${avx512} -mavx512vnni)  # int8 dot products
endif()
