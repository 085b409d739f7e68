// SPDX-License-Identifier: Apache-2.0
// What only the CPU has of the grid encoding.
#pragma once

#include "cpu/adam.h"
#include "ops/hash_grid.h"

namespace nf::cpu {

// hash_grid_backward_params followed by an Adam step of the table, level by level in one reused buffer per thread, so
// that the gradient is used while it is in cache. `grad_scratch` [n_threads, values of the largest level] is zero on
// entry and, with adam.zero_grad, on return; arrays.grad is not used.
void hash_grid_backward_adam(const GridConfig& config, const float* x, const float* dL_dy, const AdamConfig& adam,
                             int64_t step, const AdamArrays<float>& arrays, float* grad_scratch, int64_t n);

}  // namespace nf::cpu
