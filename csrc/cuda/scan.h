// SPDX-License-Identifier: Apache-2.0
// Prefix sums over the threads of a block and, in three launches, over arrays of any length: each block of the first
// writes its sum, scan_sums turns the sums into places, each block of the third scans again from its place on. Integers
// only, so the order of additions does not matter.
#pragma once

#include "cuda/launch.h"

namespace nf::cuda {

constexpr int kScanThreads = 1024;

// Sum of the values of the threads before this one; *total receives that of all. Every thread of the block takes part.
template <int kThreads>
__device__ int64_t block_exclusive_sum(int64_t value, int64_t* total) {
  constexpr int kWarps = kThreads / 32;
  __shared__ int64_t sums[kWarps];
  const int lane = threadIdx.x % 32, warp = threadIdx.x / 32;
  int64_t inclusive = value;
  for (int offset = 1; offset < 32; offset *= 2) {
    const int64_t before = __shfl_up_sync(0xffffffffu, inclusive, offset);
    if (lane >= offset) inclusive += before;
  }
  __syncthreads();  // an earlier call may still be read
  if (lane == 31) sums[warp] = inclusive;
  __syncthreads();
  int64_t before = 0, all = 0;
  for (int w = 0; w < kWarps; ++w) {
    if (w == warp) before = all;
    all += sums[w];
  }
  *total = all;
  return before + inclusive - value;
}

// One block: replaces sums [n] by the sums before each, *total receives that of all.
static __global__ void __launch_bounds__(kScanThreads) scan_sums_kernel(int64_t* sums, int64_t n, int64_t* total) {
  int64_t before = 0;
  for (int64_t first = 0; first < n; first += kScanThreads) {
    const int64_t i = first + threadIdx.x;
    int64_t all;
    const int64_t place = block_exclusive_sum<kScanThreads>(i < n ? sums[i] : 0, &all);
    if (i < n) sums[i] = before + place;
    before += all;
  }
  if (threadIdx.x == 0) *total = before;
}

inline void scan_sums(int64_t* sums, int64_t n, int64_t* total) {
  launch("scan_sums", scan_sums_kernel, Grid{1, kScanThreads}, sums, n, total);
}

}  // namespace nf::cuda
