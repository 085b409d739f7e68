// SPDX-License-Identifier: Apache-2.0
// The samples of each block of kBlock rays, as packed_output.h wants them, of kernels that count rays in another order.
#pragma once

#include "cuda/packed_output.h"

namespace nf::cuda {

static __global__ void __launch_bounds__(kBlock)
    sum_counts(const int64_t* packed_info, int64_t n_rays, int64_t* block_places) {
  const int64_t i = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  int64_t total;
  block_exclusive_sum<kBlock>(i < n_rays ? packed_info[2 * i + 1] : 0, &total);
  if (threadIdx.x == 0) block_places[blockIdx.x] = total;
}

inline void sum_blocks(int64_t n_rays, const int64_t* packed_info, int64_t* block_places) {
  launch("packed: sum", sum_counts, Grid{blocks_for(n_rays)}, packed_info, n_rays, block_places);
}

}  // namespace nf::cuda
