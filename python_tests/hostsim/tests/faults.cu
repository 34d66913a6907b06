// SPDX-License-Identifier: MIT
// Deliberate faults, each of which hostsim or a sanitizer must report; kernels named "correct_" must not be reported.
#include "cuda/launch.h"
#include "hostsim/tests/kernels.h"

namespace hostsim_tests {
namespace {

using poseren::cuda::grid_barrier;
using poseren::cuda::launch;

constexpr int kThreads = 64;

// ---- correct: against false alarms
__global__ void correct_rotation(float* x) {
  SHARED(s, float[kThreads]);
  s[threadIdx.x] = x[threadIdx.x];
  __syncthreads();
  x[threadIdx.x] = s[(threadIdx.x + 1) % kThreads];
}
__global__ void correct_same_warp(float* x) {
  SHARED(s, float[kThreads]);
  s[threadIdx.x] = x[threadIdx.x];
  __syncwarp();
  x[threadIdx.x] = s[threadIdx.x ^ 1];
}
__global__ void correct_blocks_apart(float* x) {
  x[blockIdx.x * blockDim.x + threadIdx.x] += 1.0f;
}
__global__ void correct_across_grid_barrier(float* x) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  const float before = x[kThreads - 1 - i];
  grid_barrier();
  x[i] = before;
  grid_barrier();
  if (x[kThreads - 1 - i] < 0.0f) x[i] = 0.0f;
}

// ---- the race detector's
__global__ void missing_barrier(float* x) {
  SHARED(s, float[kThreads]);
  s[threadIdx.x] = x[threadIdx.x];
  x[threadIdx.x] = s[(threadIdx.x + 1) % kThreads];
}
__global__ void warp_barrier_across_warps(float* x) {
  SHARED(s, float[kThreads]);
  s[threadIdx.x] = x[threadIdx.x];
  __syncwarp();
  x[threadIdx.x] = s[threadIdx.x ^ 32];
}
__global__ void global_write_race(float* x) {
  x[0] = static_cast<float>(threadIdx.x);
}
__global__ void race_between_blocks(float* x) {
  if (threadIdx.x == 0) x[0] = static_cast<float>(blockIdx.x);
}
__global__ void missing_grid_barrier(float* x) {
  const unsigned i = blockIdx.x * blockDim.x + threadIdx.x;
  x[i] = x[kThreads - 1 - i];
  grid_barrier();
}

// ---- AddressSanitizer's and UBSan's
__global__ void static_shared_overrun(float* x) {
  SHARED(s, float[kThreads]);
  float* p = s;
  p[threadIdx.x + 1] = x[threadIdx.x];
}
__global__ void dynamic_shared_overrun(float* x) {
  DYNAMIC_SHARED(float, s);
  s[threadIdx.x + 1] = x[threadIdx.x];
}
__global__ void global_overrun(float* x) {
  x[threadIdx.x + 1] = 1.0f;
}
__global__ void misaligned_vector(float* x) {
  x[threadIdx.x] = reinterpret_cast<float4*>(x + 1)->x;
}

// ---- seen by its result: uninitialised shared memory is NaN
__global__ void uninitialised_shared(float* x) {
  SHARED(s, float[kThreads]);
  if (threadIdx.x == 0) x[0] = s[5];
}

// ---- the runtime's own
__global__ void divergent_barrier(float*) {
  if (threadIdx.x < 32)
    __syncthreads();
  else
    __syncthreads();
}
__global__ void early_return(float*) {
  if (threadIdx.x == 63) return;
  __syncthreads();
}
__global__ void absent_source_lane(float* x) {
  if (threadIdx.x % 2) x[threadIdx.x] = __shfl_xor_sync(0xaaaaaaaau, x[threadIdx.x], 1);
}
__global__ void half_a_warp(float* x) {
  if (threadIdx.x % 2) x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 2);
  __syncthreads();
}
__global__ void not_in_own_mask(float* x) {
  x[threadIdx.x] = __shfl_sync(0xffffu, x[threadIdx.x], 0);
}
__global__ void overlapping_masks(float*) {
  __syncwarp(threadIdx.x % 2 ? 0xffffffffu : 0x55555555u);
}
__global__ void different_operations(float*) {
  if (threadIdx.x % 2)
    __any_sync(0xffffffffu, 1);
  else
    __syncwarp();
}
__global__ void deadlock(float*) {
  if (threadIdx.x < 16)
    __syncwarp();
  else
    __syncthreads();
}
__global__ void grid_barrier_without_cooperation(float*) {
  grid_barrier();
}
__global__ void grid_barrier_early_return(float*) {
  if (blockIdx.x == 1) return;
  grid_barrier();
}
__global__ void misaligned_atomic(float* x) {
  atomicAdd(reinterpret_cast<int*>(reinterpret_cast<char*>(x) + 2), 1);
}
__global__ void too_much_static_shared(float* x) {
  SHARED(a, float[12 * 1024]);
  SHARED(b, float[1]);
  a[threadIdx.x] = b[0] = x[0];
}
__global__ void static_and_dynamic_shared(float* x) {
  SHARED(a, float[kThreads]);
  a[threadIdx.x] = x[0];
}
__global__ void nested_launch(float* x) {
  launch<correct_blocks_apart>({.grid = 1, .block = 1}, x);
}

template <auto kKernel>
void one_block(float* x) {
  launch<kKernel>({.grid = 1, .block = kThreads, .shared = kThreads * sizeof(float)}, x);
}
template <auto kKernel>
void two_blocks(float* x) {
  launch<kKernel>({.grid = 2, .block = kThreads / 2}, x);
}
template <auto kKernel>
void two_cooperating_blocks(float* x) {
  launch<kKernel>({.grid = 2, .block = kThreads / 2, .cooperative = true}, x);
}

}  // namespace

std::map<std::string, std::function<void(float* x)>> faults() {
  return {
      {"correct_rotation", one_block<correct_rotation>},
      {"correct_same_warp", one_block<correct_same_warp>},
      {"correct_blocks_apart", two_blocks<correct_blocks_apart>},
      {"correct_across_grid_barrier", two_cooperating_blocks<correct_across_grid_barrier>},
      {"missing_barrier", one_block<missing_barrier>},
      {"warp_barrier_across_warps", one_block<warp_barrier_across_warps>},
      {"global_write_race", one_block<global_write_race>},
      {"race_between_blocks", two_blocks<race_between_blocks>},
      {"missing_grid_barrier", two_cooperating_blocks<missing_grid_barrier>},
      {"static_shared_overrun", one_block<static_shared_overrun>},
      {"dynamic_shared_overrun", one_block<dynamic_shared_overrun>},
      {"global_overrun", one_block<global_overrun>},
      {"misaligned_vector", one_block<misaligned_vector>},
      {"uninitialised_shared", one_block<uninitialised_shared>},
      {"divergent_barrier", one_block<divergent_barrier>},
      {"early_return", one_block<early_return>},
      {"absent_source_lane", one_block<absent_source_lane>},
      {"half_a_warp", one_block<half_a_warp>},
      {"not_in_own_mask", one_block<not_in_own_mask>},
      {"overlapping_masks", one_block<overlapping_masks>},
      {"different_operations", one_block<different_operations>},
      {"deadlock", one_block<deadlock>},
      {"grid_barrier_without_cooperation", two_blocks<grid_barrier_without_cooperation>},
      {"grid_barrier_early_return", two_cooperating_blocks<grid_barrier_early_return>},
      {"misaligned_atomic", one_block<misaligned_atomic>},
      {"too_much_static_shared", one_block<too_much_static_shared>},
      {"nested_launch", one_block<nested_launch>},
      {"static_and_dynamic_shared",
       [](float* x) { launch<static_and_dynamic_shared>({.grid = 1, .block = 1, .shared = 227 * 1024}, x); }},
      {"too_much_dynamic_shared",
       [](float* x) { launch<correct_rotation>({.grid = 1, .block = kThreads, .shared = 227 * 1024 + 1}, x); }},
      {"block_too_large", [](float* x) { launch<correct_rotation>({.grid = 1, .block = 1025}, x); }},
      {"grid_too_large", [](float* x) { launch<correct_rotation>({.grid = dim3(1, 65536), .block = kThreads}, x); }},
      {"cooperative_grid_too_large",
       [](float* x) { launch<correct_rotation>({.grid = 1000, .block = kThreads, .cooperative = true}, x); }},
  };
}

}  // namespace hostsim_tests
