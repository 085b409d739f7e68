// SPDX-License-Identifier: Apache-2.0
// Grid encoding of many samples (math/hash_grid.h has the definitions). T is the arithmetic (float or double), P the
// storage of the table (half or float with float, double with double).
#pragma once

#include <cstdint>
#include <vector>

#include "math/hash_grid.h"

namespace nf {

// Levels in order, with offsets. `n_params` = (last offset + last n_entries) * n_features_per_level.
inline std::vector<GridLevel> hash_grid_levels(const GridConfig& config) {
  std::vector<GridLevel> levels;
  int64_t offset = 0;
  for (int l = 0; l < config.n_levels; ++l) {
    levels.push_back(grid_level(config, l, offset));
    offset += levels.back().n_entries;
  }
  return levels;
}

namespace NF_BACKEND {

// x [n, D], y [n, L * F]
template <typename T, typename P>
void hash_grid_forward(const GridConfig& config, const T* x, const P* params, MaxLevel max_level, T* y, int64_t n);

// dL_dy [n, L * F], dL_dparams [n_params], overwritten. On the CPU each task owns a level: plain adds in the order of
// samples, the same numbers for any number of threads. On CUDA atomic additions in any order; see below.
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

#ifdef NF_CUDA
// hash_grid_backward_params, the same bits in every run: sums are 64-bit integers, in a unit of 2^-62 of a bound on
// every sum (n times the largest |dL_dy|), which additions in any order leave exact. `scratch`
// [n_params + 1]. A gradient with a value that is not finite is NaN everywhere.
void hash_grid_backward_params_exact(const GridConfig& config, const float* x, const float* dL_dy, MaxLevel max_level,
                                     float* dL_dparams, int64_t* scratch, int64_t n);
#endif

}  // namespace NF_BACKEND
}  // namespace nf
