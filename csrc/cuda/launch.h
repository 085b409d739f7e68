// SPDX-License-Identifier: Apache-2.0
// Checked launches on the caller's stream. Nothing here waits for the device: an error of a kernel that already runs
// surfaces at a later call, one of the launch itself at once, with the name of the kernel.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

#include "core/macros.h"
#include "cuda/stream.h"

namespace nf::cuda {

constexpr int kBlock = 256;  // threads, where nothing speaks for another number

cudaStream_t current_stream();

// Throws std::runtime_error with `what` and the runtime's message unless the call succeeded.
void check(cudaError_t error, const char* what);

// Lets a kernel have all the dynamic shared memory of the current device; without asking it gets 48 KB. Once per kernel
// and always the same: the limit belongs to the kernel, and another thread may be about to launch it with more.
void allow_all_shared(const char* name, const void* kernel);

inline int64_t blocks_for(int64_t n, int64_t per_block = kBlock) { return (n + per_block - 1) / per_block; }

#ifdef __CUDACC__
// The shared memory that Grid::shared_bytes asks for.
template <typename T>
__device__ __forceinline__ T* dynamic_shared() {
  extern __shared__ __align__(16) unsigned char bytes[];
  return reinterpret_cast<T*>(bytes);
}
#endif

struct Grid {
  int64_t n_blocks;
  int n_threads = kBlock;
  int shared_bytes = 0;
  int n_rows = 1;  // of thread blocks: blockIdx.y
};

// No blocks is no launch: an empty input is no error.
template <typename... Parameters, typename... Arguments>
void launch(const char* name, void (*kernel)(Parameters...), const Grid& grid, Arguments... arguments) {
  if (grid.n_blocks == 0) return;
  if (grid.shared_bytes > 0) allow_all_shared(name, reinterpret_cast<const void*>(kernel));
#ifdef __CUDACC__
  const dim3 blocks(static_cast<unsigned>(grid.n_blocks), static_cast<unsigned>(grid.n_rows));
  kernel<<<blocks, grid.n_threads, grid.shared_bytes, current_stream()>>>(arguments...);
#else  // the tests run kernels on the host (tests/cuda/host)
  host::run(name, kernel, grid.n_blocks, grid.n_rows, grid.n_threads, grid.shared_bytes, arguments...);
#endif
  check(cudaGetLastError(), name);
}

// Of the current device.
int n_multiprocessors();

// For a kernel whose thread blocks share out grid.n_blocks tiles by stride: as many as are resident at a time.
template <typename... Parameters, typename... Arguments>
void launch_persistent(const char* name, void (*kernel)(Parameters...), Grid grid, Arguments... arguments) {
  allow_all_shared(name, reinterpret_cast<const void*>(kernel));
  int per_multiprocessor = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&per_multiprocessor, kernel, grid.n_threads, grid.shared_bytes),
        name);
  const int64_t resident = int64_t(n_multiprocessors()) * (per_multiprocessor > 0 ? per_multiprocessor : 1);
  if (grid.n_blocks > resident) grid.n_blocks = resident;
  launch(name, kernel, grid, arguments...);
}

template <typename Functor>
__global__ void __launch_bounds__(kBlock) for_each_kernel(Functor functor, int64_t n) {
  const int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  if (i < n) functor(i);
}

// Calls functor(i) for every i in [0, n), one thread each: the counterpart of parallel_for.
template <typename Functor>
void for_each(const char* name, int64_t n, const Functor& functor) {
  launch(name, for_each_kernel<Functor>, Grid{blocks_for(n)}, functor, n);
}

// Sets n values to zero on the caller's stream.
template <typename T>
void fill_zero(T* values, int64_t n) {
  if (n > 0) check(cudaMemsetAsync(values, 0, static_cast<size_t>(n) * sizeof(T), current_stream()), "fill_zero");
}

}  // namespace nf::cuda
