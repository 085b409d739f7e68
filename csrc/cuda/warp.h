// SPDX-License-Identifier: Apache-2.0
// Sums over the lanes of a warp; all 32 take part. The order is fixed, so results are the same in every run.
#pragma once

#include "core/macros.h"

namespace nf::cuda {

constexpr unsigned kWholeWarp = 0xffffffffu;

__device__ __forceinline__ int lane_index() { return static_cast<int>(threadIdx.x % 32); }

// The sum of all lanes, in all lanes.
template <typename T>
__device__ __forceinline__ T warp_sum(T value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(kWholeWarp, value, offset);
  return value;
}

// The sum of the lanes up to and including this one.
template <typename T>
__device__ __forceinline__ T warp_inclusive_sum(T value) {
  for (int offset = 1; offset < 32; offset *= 2) {
    const T before = __shfl_up_sync(kWholeWarp, value, offset);
    if (lane_index() >= offset) value += before;
  }
  return value;
}

}  // namespace nf::cuda
