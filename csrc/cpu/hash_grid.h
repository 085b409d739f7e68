// SPDX-License-Identifier: Apache-2.0
// Grid encoding of many samples on all threads (math/hash_grid.h has the definitions). T is the arithmetic (float or
// double), P the storage of the table (half or float with float, double with double).
#pragma once

#include <cstdint>
#include <vector>

#include "cpu/adam.h"
#include "math/hash_grid.h"

namespace nf::cpu {

// Levels in order, with offsets. `n_params` = (last offset + last n_entries) * n_features_per_level.
std::vector<GridLevel> hash_grid_levels(const GridConfig& config);

// Level l of sample i is used where l < value(i) * n_levels; one value for all, or one per sample.
struct MaxLevel {
  const float* values = nullptr;  // null: all levels
  bool per_sample = false;
  bool hides(int level_idx, int n_levels, int64_t i) const {
    return values && !(static_cast<float>(level_idx) < values[per_sample ? i : 0] * static_cast<float>(n_levels));
  }
};

// x [n, D], y [n, L * F]
template <typename T, typename P>
void hash_grid_forward(const GridConfig& config, const T* x, const P* params, MaxLevel max_level, T* y, int64_t n);

// dL_dy [n, L * F], dL_dparams [n_params], overwritten. Each task owns a level: plain adds in the order of samples, the
// same numbers for any number of threads.
template <typename T>
void hash_grid_backward_params(const GridConfig& config, const T* x, const T* dL_dy, MaxLevel max_level, T* dL_dparams,
                               int64_t n);

// dL_dx [n, D]
template <typename T, typename P>
void hash_grid_backward_input(const GridConfig& config, const T* x, const P* params, const T* dL_dy, MaxLevel max_level,
                              T* dL_dx, int64_t n);

// Gradients of v . dL/dx, v [n, D]: to the table [n_params] (overwritten), to dL_dy [n, L * F], to x [n, D].
// Each output may be null.
template <typename T, typename P>
void hash_grid_backward_backward_input(const GridConfig& config, const T* x, const P* params, const T* dL_dy,
                                       const T* v, MaxLevel max_level, T* dH_dparams, T* dH_ddL_dy, T* dH_dx,
                                       int64_t n);

// hash_grid_backward_params followed by an Adam step of the table, level by level in one reused buffer per thread, so
// that the gradient is used while it is in cache. `grad_scratch` [n_threads, values of the largest level] is zero on
// entry and, with adam.zero_grad, on return; arrays.grad is not used.
void hash_grid_backward_adam(const GridConfig& config, const float* x, const float* dL_dy, const AdamConfig& adam,
                             int64_t step, const AdamArrays<float>& arrays, float* grad_scratch, int64_t n);

}  // namespace nf::cpu
