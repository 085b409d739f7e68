// SPDX-License-Identifier: Apache-2.0
// Sums over the lanes of a warp or of runs of them; all 32 take part. The order is fixed, so results are the same in
// every run.
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

// Lanes 2k and 2k + 1 transpose two values each: lane 2k gets `first` of both, lane 2k + 1 `second` of both.
template <typename T>
__device__ __forceinline__ void transpose_in_pairs(T& first, T& second) {
  const bool is_odd = lane_index() & 1;
  const T received = __shfl_xor_sync(kWholeWarp, is_odd ? first : second, 1);
  (is_odd ? first : second) = received;
}

// The lanes of a warp cut into runs of neighbours.
class LaneRuns {
 public:
  // continues: whether this lane belongs to the run of the lane before it; not of lane 0.
  __device__ __forceinline__ explicit LaneRuns(bool continues) {
    const unsigned later_starts = ~__ballot_sync(kWholeWarp, continues) >> 1 >> lane_index();
    n_behind_ = later_starts != 0 ? __ffs(static_cast<int>(later_starts)) - 1 : 31 - lane_index();
  }

  // Brings the first lane of each run the sums over its lanes; what others are left with has no meaning. As many steps
  // as the longest run of the warp needs, none where all lanes are alone.
  template <int N, typename T>
  __device__ __forceinline__ void sum(T* values) const {
    for (int offset = 1; __any_sync(kWholeWarp, offset <= n_behind_); offset *= 2) {
#pragma unroll
      for (int i = 0; i < N; ++i) {
        const T behind = __shfl_down_sync(kWholeWarp, values[i], offset);
        if (offset <= n_behind_) values[i] += behind;
      }
    }
  }

 private:
  int n_behind_;  // lanes of this lane's run behind it
};

}  // namespace nf::cuda
