# SPDX-License-Identifier: MIT
# The CUDA kernels inside poseren_ops: torch-free, for named architectures, with the runtime linked statically, so that
# the library loads on machines without CUDA.
set(CMAKE_CUDA_STANDARD 20)
set(CMAKE_CUDA_STANDARD_REQUIRED ON)
set(CMAKE_CUDA_VISIBILITY_PRESET hidden)
enable_language(CUDA)
target_sources(poseren_ops PRIVATE ${cuda_sources})
target_compile_definitions(poseren_ops PRIVATE POSEREN_CUDA)
target_link_libraries(poseren_ops PRIVATE ${CMAKE_DL_LIBS})
set_target_properties(poseren_ops PROPERTIES CUDA_RUNTIME_LIBRARY Static CUDA_ARCHITECTURES "${CMAKE_CUDA_ARCHITECTURES}")
# No contraction, as on the CPU, for the same bits from both; kernels that want fma call it.
set(cuda_options --fmad=false)
# A spill or an array in local memory is an error for the architectures that the kernels are tuned for.
set(other_architectures ${CMAKE_CUDA_ARCHITECTURES})
list(REMOVE_ITEM other_architectures 80 90)
if(NOT other_architectures)
  list(APPEND cuda_options -Xptxas=-warn-spills,-warn-lmem-usage,-Werror)
endif()
target_compile_options(poseren_ops PRIVATE "$<$<COMPILE_LANGUAGE:CUDA>:${cuda_options}>")
