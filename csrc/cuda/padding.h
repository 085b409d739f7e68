// SPDX-License-Identifier: Apache-2.0
// Zeros behind the samples of a packed output, for kernels that write samples only.
#pragma once

#include "cuda/launch.h"
#include "ops/march.h"

namespace nf::cuda {

static __global__ void __launch_bounds__(kBlock) clear_rows(PackedOutput out) {
  const int64_t row = int64_t(blockIdx.x) * kBlock + threadIdx.x;
  if (row < out.counts[0] || row >= out.capacity) return;
  out.ray_indices[row] = 0;
  out.t_starts[row] = out.t_ends[row] = 0;
}

// Once counts[0] is known.
inline void clear_behind(const PackedOutput& out) {
  launch("packed: padding", clear_rows, Grid{blocks_for(out.capacity)}, out);
}

}  // namespace nf::cuda
