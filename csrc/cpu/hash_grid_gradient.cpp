// SPDX-License-Identifier: Apache-2.0
// The gradient of the grid encoding with respect to positions, and the gradients of that gradient: normals, eikonal
// terms, pose refinement. Scalar loops over math/hash_grid.h.
#include <algorithm>

#include "core/parallel.h"
#include "cpu/hash_grid.h"
#include "ops/hash_grid_dispatch.h"

namespace nf::cpu {
namespace {

constexpr int64_t kChunk = 1024;

}  // namespace

template <typename T, typename P>
void hash_grid_backward_input(const GridConfig& config, const T* x, const P* params, const T* dL_dy, MaxLevel max_level,
                              T* dL_dx, int64_t n) {
  const std::vector<GridLevel> levels = hash_grid_levels(config);
  dispatch_grid(config, [&](auto D, auto F) {
    const int n_levels = config.n_levels;
    std::fill_n(dL_dx, n * D, T(0));
    parallel_ranges(n, kChunk, [&](int64_t begin, int64_t end) {
      for (int l = 0; l < n_levels; ++l)
        for (int64_t i = begin; i < end; ++i)
          if (!max_level.hides(l, n_levels, i))
            grid_backward_input<T, D, F>(levels[l], config.interpolation, params + levels[l].offset * F, x + i * D,
                                         dL_dy + (i * n_levels + l) * F, dL_dx + i * D);
    });
  });
}

template <typename T, typename P>
void hash_grid_backward_backward_input(const GridConfig& config, const T* x, const P* params, const T* dL_dy,
                                       const T* v, MaxLevel max_level, T* dH_dparams, T* dH_ddL_dy, T* dH_dx,
                                       int64_t n) {
  const std::vector<GridLevel> levels = hash_grid_levels(config);
  dispatch_grid(config, [&](auto D, auto F) {
    const int n_levels = config.n_levels;
    const auto sample = [&](int l, int64_t i, T* dH_dtable, T* dH_dq, T* dH_dposition) {
      if (max_level.hides(l, n_levels, i)) return;
      grid_backward_backward_input<T, D, F>(levels[l], config.interpolation, params + levels[l].offset * F, x + i * D,
                                            dL_dy + (i * n_levels + l) * F, v + i * D, dH_dtable, dH_dq, dH_dposition);
    };
    // What belongs to a sample: tasks are ranges of samples.
    if (dH_ddL_dy) std::fill_n(dH_ddL_dy, n * n_levels * F, T(0));
    if (dH_dx) std::fill_n(dH_dx, n * D, T(0));
    if (dH_ddL_dy || dH_dx)
      parallel_ranges(n, kChunk, [&](int64_t begin, int64_t end) {
        for (int l = 0; l < n_levels; ++l)
          for (int64_t i = begin; i < end; ++i)
            sample(l, i, nullptr, dH_ddL_dy ? dH_ddL_dy + (i * n_levels + l) * F : nullptr,
                   dH_dx ? dH_dx + i * D : nullptr);
      });
    // The table: tasks are levels, which they own.
    if (dH_dparams)
      parallel_tasks(n_levels, [&](int64_t task, int) {
        const int l = n_levels - 1 - static_cast<int>(task);
        T* table = dH_dparams + levels[l].offset * F;
        std::fill_n(table, int64_t(levels[l].n_entries) * F, T(0));
        for (int64_t i = 0; i < n; ++i) sample(l, i, table, nullptr, nullptr);
      });
  });
}

#define NF_INSTANTIATE(T, P)                                                                                           \
  template void hash_grid_backward_input(const GridConfig&, const T*, const P*, const T*, MaxLevel, T*, int64_t);      \
  template void hash_grid_backward_backward_input(const GridConfig&, const T*, const P*, const T*, const T*, MaxLevel, \
                                                  T*, T*, T*, int64_t);
NF_INSTANTIATE(float, float)
NF_INSTANTIATE(float, half)
NF_INSTANTIATE(double, double)

}  // namespace nf::cpu
