// SPDX-License-Identifier: MIT
// Correct kernels, one for each part of CUDA that hostsim imitates, against plain loops.
#include <vector>

#include "cuda/launch.h"
#include "hostsim/tests/kernels.h"

namespace hostsim_tests {
namespace {

using poseren::cuda::blocks;
using poseren::cuda::grid_barrier;
using poseren::cuda::launch;

constexpr unsigned kAll = 0xffffffffu;

template <class T>
std::string compare(const std::vector<T>& got, const std::vector<T>& expected) {
  for (size_t i = 0; i < got.size(); i++)
    if (got[i] != expected[i])
      return "item " + std::to_string(i) + " is " + std::to_string(got[i]) + ", expected " +
             std::to_string(expected[i]);
  return "";
}

// ---- indices of 1-D, 2-D and 3-D blocks and grids: each thread writes its number once
__global__ void number_threads(int* out) {
  const unsigned block = blockIdx.x + gridDim.x * (blockIdx.y + gridDim.y * blockIdx.z);
  const unsigned thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
  const unsigned i = block * blockDim.x * blockDim.y * blockDim.z + thread;
  SHARED(seen, int);
  const int before = __syncthreads_count(thread % 2);
  if (thread == 0) seen = before;
  __syncthreads();
  out[i] += static_cast<int>(i) * 100 + seen;
}
std::string check_indices() {
  for (const dim3 block : {dim3(96), dim3(8, 6), dim3(4, 3, 5), dim3(1)})
    for (const dim3 grid : {dim3(3), dim3(2, 3), dim3(2, 1, 3)}) {
      const unsigned threads = block.x * block.y * block.z;
      std::vector<int> out(threads * grid.x * grid.y * grid.z), expected(out.size());
      for (size_t i = 0; i < out.size(); i++) expected[i] = static_cast<int>(i * 100 + threads / 2);
      launch<number_threads>({.grid = grid, .block = block}, out.data());
      if (auto wrong = compare(out, expected); !wrong.empty()) return wrong;
    }
  return "";
}

// ---- every shuffle, in parts of the warp and on types of 1 to 8 bytes
template <class T>
__global__ void shuffle_all(int width, T* out) {  // out: [5, 32]
  const auto mine = static_cast<T>(threadIdx.x + 1);
  T* column = out + threadIdx.x;
  column[0] = __shfl_sync(kAll, mine, 3, width);
  column[32] = __shfl_xor_sync(kAll, mine, 5, width);
  column[64] = __shfl_down_sync(kAll, mine, 2, width);
  column[96] = __shfl_up_sync(kAll, mine, 1, width);
  column[128] = threadIdx.x < 8 ? __shfl_xor_sync(0xffu, mine, 1) : __shfl_xor_sync(~0xffu, mine, 4);
}
template <class T>
std::string check_shuffles() {
  for (const int width : {32, 16, 4}) {
    std::vector<T> out(160), expected(160);
    for (int l = 0; l < 32; l++) {
      const int first = l & ~(width - 1), last = l | (width - 1);
      const int sources[] = {first | (3 & (width - 1)), (l ^ 5) > last ? l : l ^ 5, l + 2 > last ? l : l + 2,
                             l - 1 < first ? l : l - 1, l < 8 ? l ^ 1 : l ^ 4};
      for (int k = 0; k < 5; k++) expected[k * 32 + l] = static_cast<T>(sources[k] + 1);
    }
    launch<shuffle_all<T>>({.grid = 1, .block = 32}, width, out.data());
    if (auto wrong = compare(out, expected); !wrong.empty()) return wrong;
  }
  return "";
}

// ---- votes, matches and reductions, the last warp incomplete
__global__ void vote_all(const int* in, int* out) {  // in: [48], out: [8, 48]
  const unsigned i = threadIdx.x, mask = i < 32 ? kAll : 0xffffu;
  const int value = in[i];
  out[i] = static_cast<int>(__ballot_sync(mask, value > 0));
  out[48 + i] = __any_sync(mask, value > 40);
  out[96 + i] = __all_sync(mask, value > -3);
  out[144 + i] = static_cast<int>(__match_any_sync(mask, value % 3));
  out[192 + i] = __reduce_add_sync(mask, value);
  out[240 + i] = __reduce_min_sync(mask, value);
  out[288 + i] = __reduce_max_sync(mask, value);
  out[336 + i] = static_cast<int>(__reduce_max_sync(mask, static_cast<unsigned>(value)));
}
std::string check_votes() {
  std::vector<int> in(48), out(8 * 48), expected(8 * 48);
  for (int i = 0; i < 48; i++) in[i] = i * 37 % 48 - 4;
  for (int i = 0; i < 48; i++) {
    const int first = i / 32 * 32, last = i < 32 ? 32 : 48;
    unsigned positive = 0, equal = 0, largest = 0;
    int any = 0, all = 1, sum = 0, low = in[first], high = in[first];
    for (int k = first; k < last; k++) {
      positive |= static_cast<unsigned>(in[k] > 0) << (k - first);
      equal |= static_cast<unsigned>(in[k] % 3 == in[i] % 3) << (k - first);
      any |= in[k] > 40;
      all &= in[k] > -3;
      sum += in[k];
      low = min(low, in[k]);
      high = max(high, in[k]);
      largest = max(largest, static_cast<unsigned>(in[k]));
    }
    const int values[] = {static_cast<int>(positive), any, all, static_cast<int>(equal), sum, low, high,
                          static_cast<int>(largest)};
    for (int k = 0; k < 8; k++) expected[k * 48 + i] = values[k];
  }
  launch<vote_all>({.grid = 1, .block = 48}, in.data(), out.data());
  return compare(out, expected);
}

// ---- shared memory of both kinds, loops over barriers, integer atomics
__global__ void histogram(const int* values, int n, int* bins, unsigned long long* sum) {  // values: [n], bins: [16]
  SHARED(local, int[16]);
  DYNAMIC_SHARED(int, tile);
  for (int start = 0; start < n; start += blockDim.x * gridDim.x) {
    if (threadIdx.x < 16) local[threadIdx.x] = 0;
    const int i = start + static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    tile[blockDim.x - 1 - threadIdx.x] = i < n ? values[i] : -1;
    __syncthreads();
    const int value = tile[threadIdx.x];
    if (value >= 0) {
      atomicAdd(&local[value], 1);
      atomicAdd(sum, static_cast<unsigned long long>(value) << 32);
    }
    __syncthreads();
    if (threadIdx.x < 16) atomicAdd(&bins[threadIdx.x], local[threadIdx.x]);
  }
}
std::string check_histogram() {
  std::vector<int> values(1000), bins(16), expected(16);
  unsigned long long sum = 0, expected_sum = 0;
  for (int i = 0; i < 1000; i++) {
    values[i] = i * i % 16;
    expected[values[i]]++;
    expected_sum += static_cast<unsigned long long>(values[i]) << 32;
  }
  launch<histogram>({.grid = 3, .block = 64, .shared = 64 * sizeof(int)}, values.data(), 1000, bins.data(), &sum);
  return sum == expected_sum ? compare(bins, expected) : "the sum is wrong";
}

// ---- the grid barrier; shared memory lives across it
__global__ void normalize(float* x, float* partial, int n) {  // x: [n], partial: [gridDim.x]
  SHARED(mine, float);
  const int first = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  const int stride = static_cast<int>(blockDim.x * gridDim.x);
  if (threadIdx.x == 0) {
    mine = 0.0f;
    for (int i = static_cast<int>(blockIdx.x); i < n; i += static_cast<int>(gridDim.x)) mine += x[i];
    partial[blockIdx.x] = mine;
  }
  grid_barrier();
  if (mine != partial[blockIdx.x]) partial[blockIdx.x] = NAN;
  grid_barrier();
  float total = 0.0f;
  for (unsigned b = 0; b < gridDim.x; b++) total += partial[b];
  for (int i = first; i < n; i += stride) x[i] /= total;
}
std::string check_grid_barrier() {
  std::vector<float> x(500), expected(500), partial(3);
  for (int i = 0; i < 500; i++) x[i] = static_cast<float>(i % 8 + 1);
  float total = 0.0f;
  for (const float v : x) total += v;
  for (int i = 0; i < 500; i++) expected[i] = x[i] / total;
  launch<normalize>({.grid = 3, .block = 96, .cooperative = true}, x.data(), partial.data(), 500);
  return compare(x, expected);
}

// ---- vectors of 16 bytes
__global__ void add_vectors(const float4* in, float4* out, int n) {  // in, out: [n]
  const int i = static_cast<int>(threadIdx.x);
  if (i >= n) return;
  const float4 v = __ldg(in + i);
  out[i] = make_float4(__fadd_rn(v.x, 1.0f), __fmul_rn(v.y, 2.0f), __fmaf_rn(v.z, 3.0f, 1.0f), v.w);
}
std::string check_vectors() {
  std::vector<float4> in(40), out(40);
  for (int i = 0; i < 40; i++) in[i] = {1.0f * i, 2.0f * i, 3.0f * i, 4.0f * i};
  launch<add_vectors>({.grid = 1, .block = 64}, in.data(), out.data(), 40);
  for (int i = 0; i < 40; i++)
    if (out[i].x != i + 1.0f || out[i].y != 4.0f * i || out[i].z != 9.0f * i + 1.0f || out[i].w != 4.0f * i)
      return "vector " + std::to_string(i) + " is wrong";
  return "";
}

// ---- an empty grid is no work
__global__ void set_one(int* x) {
  *x = 1;
}
std::string check_empty_grid() {
  int x = 0;
  launch<set_one>({.grid = blocks(0, 128), .block = 128}, &x);
  if (x) return "an empty grid ran";
  launch<set_one>({.grid = blocks(1, 128), .block = 1}, &x);
  return x ? "" : "a grid of one did not run";
}

__global__ void meet(int barriers) {
  for (int i = 0; i < barriers; i++) __syncthreads();
}

}  // namespace

void run_barriers(int grid, int block, int barriers) {
  launch<meet>({.grid = dim3(grid), .block = dim3(block)}, barriers);
}

std::map<std::string, std::function<std::string()>> checks() {
  return {
      {"indices", check_indices},
      {"shuffles of int", check_shuffles<int>},
      {"shuffles of float", check_shuffles<float>},
      {"shuffles of unsigned char", check_shuffles<unsigned char>},
      {"shuffles of double", check_shuffles<double>},
      {"votes", check_votes},
      {"histogram", check_histogram},
      {"grid barrier", check_grid_barrier},
      {"vectors", check_vectors},
      {"empty grid", check_empty_grid},
  };
}

}  // namespace hostsim_tests
