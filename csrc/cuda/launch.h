// SPDX-License-Identifier: MIT
// CUDA interface of the kernel files, and the only place that launches kernels. With nvcc this is CUDA; with a host
// compiler it is hostsim, which runs the same kernels on a CPU.
//
//   __global__ void scale(float* x, int64_t n, float by) {  // x: [n]
//     SHARED(tile, float[256]);
//     ...
//   }
//   launch<scale>({.grid = blocks(n, 256), .block = 256, .stream = stream}, x, n, 2.0f);
#pragma once

#ifdef __CUDACC__
#include <cooperative_groups.h>
#include <cuda_runtime.h>
#else
#include "hostsim/cuda_names.h"
#endif

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <string>
#include <type_traits>

// SHARED(tile, float[8][32]) declares a block's variable `tile`; DYNAMIC_SHARED(float, tile) the launch's `shared`
// bytes as a pointer, once per kernel.
#ifdef __CUDACC__
#define SHARED(name, ...) __shared__ std::type_identity_t<__VA_ARGS__> name
#define DYNAMIC_SHARED(T, name)                                          \
  extern __shared__ __align__(128) unsigned char dynamic_shared_bytes[]; \
  T* const name = reinterpret_cast<T*>(dynamic_shared_bytes)
#else
#define SHARED(name, ...) auto& name = ::hostsim::static_shared<std::type_identity_t<__VA_ARGS__>, decltype([] {})>()
#define DYNAMIC_SHARED(T, name) T* const name = static_cast<T*>(::hostsim::dynamic_shared_bytes())
#endif

namespace poseren::cuda {

struct Launch {
  dim3 grid, block;
  size_t shared = 0;  // bytes of dynamic shared memory
  void* stream = nullptr;
  bool cooperative = false;  // all blocks run concurrently and may use grid_barrier
};

// Limits of the current device.
struct DeviceLimits {
  int multiprocessors;
  size_t shared;  // bytes per block
};

namespace detail {

// The name of a kernel, such as "pool", from __PRETTY_FUNCTION__ of a function with the kernel as template argument:
// "... [with auto kKernel = poseren::cuda::{anonymous}::pool<float>; ...]".
inline std::string kernel_name(std::string pretty) {
  constexpr const char* mark = "kKernel = ";
  pretty.erase(0, pretty.find(mark) + std::char_traits<char>::length(mark));
  pretty.erase(pretty.find_first_of("<;]"));
  return pretty.substr(pretty.find_last_of(":&") + 1);
}

}  // namespace detail

#ifdef __CUDACC__

__device__ inline void grid_barrier() {
  cooperative_groups::this_grid().sync();
}

namespace detail {

[[noreturn]] inline void refuse(const std::string& what, cudaError_t status) {
  cudaGetLastError();  // clears the error, or a later call would report it
  std::string message = what + ": " + cudaGetErrorString(status);
  if (status == cudaErrorNoKernelImageForDevice || status == cudaErrorInvalidDeviceFunction)
    message += "; rebuild with this GPU's compute capability in CMAKE_CUDA_ARCHITECTURES";
  throw std::runtime_error(message);
}

// Raises the kernel's limit of dynamic shared memory to that of the current device, once per device. All threads set
// the same value, so concurrent launches do not lower each other's limit.
template <auto kKernel>
cudaError_t allow_dynamic_shared() {
  static std::atomic<uint64_t> allowed = 0;  // a bit per device
  int device = 0, limit = 0;
  cudaFuncAttributes attributes{};
  cudaError_t status = cudaGetDevice(&device);
  const uint64_t bit = device < 64 ? uint64_t{1} << device : 0;
  if (status != cudaSuccess || allowed & bit) return status;
  status = cudaDeviceGetAttribute(&limit, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (status == cudaSuccess) status = cudaFuncGetAttributes(&attributes, kKernel);
  if (status != cudaSuccess) return status;
  limit -= static_cast<int>(attributes.sharedSizeBytes);
  status = cudaFuncSetAttribute(kKernel, cudaFuncAttributeMaxDynamicSharedMemorySize, limit);
  if (status == cudaSuccess) allowed |= bit;
  return status;
}

template <class... P>
cudaError_t start(const Launch& at, void (*kernel)(P...), std::type_identity_t<P>... args) {
  cudaLaunchAttribute cooperative{};
  cooperative.id = cudaLaunchAttributeCooperative;
  cooperative.val.cooperative = 1;
  cudaLaunchConfig_t config{};
  config.gridDim = at.grid;
  config.blockDim = at.block;
  config.dynamicSmemBytes = at.shared;
  config.stream = static_cast<cudaStream_t>(at.stream);
  config.attrs = &cooperative;
  config.numAttrs = at.cooperative ? 1 : 0;
  return cudaLaunchKernelEx(&config, kernel, args...);
}

}  // namespace detail

inline DeviceLimits device_limits() {
  int device = 0, multiprocessors = 0, shared = 0;
  cudaError_t status = cudaGetDevice(&device);
  if (status == cudaSuccess) status = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (status == cudaSuccess) status = cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (status != cudaSuccess) detail::refuse("CUDA device", status);
  return {multiprocessors, static_cast<size_t>(shared)};
}

// Prefetches a cache line into L2.
__device__ inline void prefetch(const void* address) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(address));
}

// Launches the kernel; does nothing if the grid is empty. Throws std::runtime_error if CUDA reports an error.
template <auto kKernel, class... Args>
void launch(const Launch& at, const Args&... args) {
  if (!at.grid.x || !at.grid.y || !at.grid.z) return;
  cudaError_t status = at.shared > 0 ? detail::allow_dynamic_shared<kKernel>() : cudaSuccess;
  if (status == cudaSuccess) status = detail::start(at, kKernel, args...);
  if (status != cudaSuccess) detail::refuse("CUDA kernel " + detail::kernel_name(__PRETTY_FUNCTION__), status);
}

#else

inline void grid_barrier(HOSTSIM_SITE) {
  hostsim::grid_barrier(site);
}

namespace detail {

template <class... P>
void start(const std::string& name, const Launch& at, void (*kernel)(P...), std::type_identity_t<P>... args) {
  auto call = [&] { kernel(args...); };
  hostsim::launch_threads(
      name, {at.grid, at.block, at.shared, at.cooperative}, [](void* p) { (*static_cast<decltype(call)*>(p))(); },
      &call);
}

}  // namespace detail

inline DeviceLimits device_limits() {
  return {hostsim::settings().multiprocessors, hostsim::kSharedLimit};
}

inline void prefetch(const void*) {}

template <auto kKernel, class... Args>
void launch(const Launch& at, const Args&... args) {
  if (at.grid.x && at.grid.y && at.grid.z)
    detail::start(detail::kernel_name(__PRETTY_FUNCTION__), at, kKernel, args...);
}

#endif

inline constexpr int64_t kMaxBlocks = 0x7fffffff;

// Number of blocks of `size` threads for n items, limited by the grid size: kernels stride over the rest.
inline unsigned blocks(int64_t n, int size) {
  const int64_t count = (n + size - 1) / size;
  return static_cast<unsigned>(count < kMaxBlocks ? count : kMaxBlocks);
}

// A grid of exactly this many blocks.
inline unsigned grid_of(int64_t count) {
  if (count > kMaxBlocks) throw std::runtime_error("poseren: more work than one CUDA grid holds; split the batch");
  return static_cast<unsigned>(count);
}

}  // namespace poseren::cuda
