// SPDX-License-Identifier: Apache-2.0
// Where kernels run: the device and the stream that the caller named last on its thread. Without CUDA headers, so that
// bindings need none.
#pragma once

#include <cstdint>

namespace nf::cuda {

// Names device and stream (a cudaStream_t as an integer, 0: the default stream) for this thread's next calls.
void use(int device, uintptr_t stream);

// Makes the named device the current one of this thread. Throws std::runtime_error where that is impossible.
struct UseDevice {
  UseDevice();
};

// Devices that this module's runtime finds; creates no context. Without any, *reason says why.
int device_count(const char** reason);

int max_shared_bytes();  // of one thread block that asks for it, on the current device

}  // namespace nf::cuda
