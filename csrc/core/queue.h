// SPDX-License-Identifier: MIT
// Where work is put. `run(params, queue)` is overloaded for each op's parameters in namespaces cpu and cuda; the type
// of the queue chooses between them.
#pragma once

namespace poseren {

namespace cpu {
struct Queue {};
}  // namespace cpu

namespace cuda {
struct Queue {
  void* stream;  // a cudaStream_t; kept opaque, so that callers need no CUDA header
};
}  // namespace cuda

}  // namespace poseren
