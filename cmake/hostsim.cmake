# SPDX-License-Identifier: MIT
# For the tests: the ops and CUDA kernels as a second library, torch.ops.poseren_hostsim, compiled by the host compiler
# and run on CPU tensors by python_tests/hostsim.
find_package(Threads REQUIRED)
file(GLOB hostsim_sources CONFIGURE_DEPENDS python_tests/hostsim/*.cpp)
add_library(hostsim STATIC ${hostsim_sources})
target_include_directories(hostsim PUBLIC python_tests)
target_link_libraries(hostsim PUBLIC Threads::Threads)
# Sanitizers check the kernels, not the runtime, which switches stacks and fills the memory of every thread.
target_compile_options(hostsim PRIVATE -Wall -Wextra -O2 -g -fno-sanitize=all)

add_library(poseren_hostsim SHARED ${op_sources})
foreach(source IN LISTS cuda_sources)
  # A wrapper, because CMake would compile a .cu file with nvcc: a source has one language in all targets.
  cmake_path(GET source STEM name)
  set(wrapper ${CMAKE_CURRENT_BINARY_DIR}/hostsim/${name}.cpp)
  file(CONFIGURE OUTPUT ${wrapper} CONTENT "#include \"${source}\"\n")
  target_sources(poseren_hostsim PRIVATE ${wrapper})
endforeach()
target_compile_definitions(poseren_hostsim PRIVATE POSEREN_HOSTSIM)
target_compile_options(poseren_hostsim PRIVATE -g)
target_link_libraries(poseren_hostsim PRIVATE poseren_flags torch_stable hostsim)
set_target_properties(poseren_hostsim PROPERTIES BUILD_WITH_INSTALL_RPATH ON INSTALL_RPATH "$ORIGIN;$ORIGIN/../torch/lib")
install(TARGETS poseren_hostsim LIBRARY DESTINATION poseren_ext)
