// SPDX-License-Identifier: MIT
// The device that an op runs on: its guard, its queue, and the op's registration for each device of this build.
#pragma once

#include <torch/csrc/stable/accelerator.h>

#include "core/kernels.h"
#include "ops/tensor.h"

#if !defined(POSEREN_HOSTSIM) && defined(POSEREN_CUDA)
#include <dlfcn.h>
#endif

namespace poseren::ops {

// Makes a tensor's device current for its own lifetime and gives the queue of that device's current stream.
template <class Queue>
class DeviceScope;

template <>
class DeviceScope<cpu::Queue> {
 public:
  explicit DeviceScope(const Tensor&) {}
  cpu::Queue queue() const { return {}; }
};

#if defined(POSEREN_HOSTSIM)
template <>
class DeviceScope<cuda::Queue> {  // the kernels run on the host, one after another
 public:
  explicit DeviceScope(const Tensor&) {}
  cuda::Queue queue() const { return {nullptr}; }
};
#elif defined(POSEREN_CUDA)
// libtorch_cuda exports it from 2.11 on; libtorch_cpu, which is all that this library links, does not have it.
inline void* current_stream(int32_t device) {
  using Get = AOTITorchError (*)(int32_t, void**);
  static const Get get = [] {
    void* library = dlopen("libtorch_cuda.so", RTLD_NOLOAD | RTLD_LAZY);
    return library ? reinterpret_cast<Get>(dlsym(library, "aoti_torch_get_current_cuda_stream")) : nullptr;
  }();
  void* stream = nullptr;
  if (!get || get(device, &stream) != 0)
    throw std::runtime_error("poseren: this torch gives no CUDA stream; install a CUDA build of torch 2.11 or newer");
  return stream;
}

template <>
class DeviceScope<cuda::Queue> {
 public:
  explicit DeviceScope(const Tensor& tensor) : guard_(tensor.get_device_index()), device_(tensor.get_device_index()) {}
  cuda::Queue queue() const { return {current_stream(device_)}; }

 private:
  torch::stable::accelerator::DeviceGuard guard_;
  int32_t device_;
};
#endif

}  // namespace poseren::ops

// Registers the function template `op<Queue>` under its own name for every device of this build.
#if defined(POSEREN_HOSTSIM)
#define POSEREN_REGISTER(op)                                         \
  STABLE_TORCH_LIBRARY_IMPL(poseren_hostsim, CPU, m) {               \
    m.impl(#op, TORCH_BOX(&poseren::ops::op<poseren::cuda::Queue>)); \
  }
#elif defined(POSEREN_CUDA)
#define POSEREN_REGISTER(op)                                         \
  STABLE_TORCH_LIBRARY_IMPL(poseren, CPU, m) {                       \
    m.impl(#op, TORCH_BOX(&poseren::ops::op<poseren::cpu::Queue>));  \
  }                                                                  \
  STABLE_TORCH_LIBRARY_IMPL(poseren, CUDA, m) {                      \
    m.impl(#op, TORCH_BOX(&poseren::ops::op<poseren::cuda::Queue>)); \
  }
#else
#define POSEREN_REGISTER(op)                                        \
  STABLE_TORCH_LIBRARY_IMPL(poseren, CPU, m) {                      \
    m.impl(#op, TORCH_BOX(&poseren::ops::op<poseren::cpu::Queue>)); \
  }
#endif
