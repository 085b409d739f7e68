// SPDX-License-Identifier: Apache-2.0
#include "cpu/hash_grid.h"

#include <algorithm>

#include "core/parallel.h"
#include "cpu/hash_grid_dispatch.h"
#include "cpu/hash_grid_tile.h"

namespace nf::cpu {
namespace {

constexpr int64_t kChunk = 2048;

// The axes of kChunk positions as separate arrays, on the stack.
template <int D>
struct Axes {
  float values[D][kChunk];
  const float* x[D];
  Axes(const float* positions, int64_t n) {
    for (int d = 0; d < D; ++d) {
      x[d] = values[d];
      for (int64_t i = 0; i < n; ++i) values[d][i] = positions[i * D + d];
    }
  }
};

template <typename T>
void hide(T* y, int64_t stride, int n_features, int64_t begin, int64_t n, MaxLevel max_level, int level_idx,
          int n_levels) {
  if (!max_level.values) return;
  for (int64_t i = 0; i < n; ++i)
    if (max_level.hides(level_idx, n_levels, begin + i)) std::fill_n(y + i * stride, n_features, T(0));
}

template <typename P, int D, int F>
void forward_chunk(const GridConfig& config, const std::vector<GridLevel>& levels, const float* x, const P* params,
                   float* y, int64_t n) {
  const Axes<D> axes(x, n);
  for (size_t l = 0; l < levels.size(); ++l)
    encode_level<P, D, F>(levels[l], config.interpolation, params + levels[l].offset * F, axes.x, n, y + l * F,
                          int64_t(levels.size()) * F);
}
template <typename P, int D, int F>
void forward_chunk(const GridConfig& config, const std::vector<GridLevel>& levels, const double* x, const P* params,
                   double* y, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    for (size_t l = 0; l < levels.size(); ++l)
      grid_forward<double, D, F>(levels[l], config.interpolation, params + levels[l].offset * F, x + i * D,
                                 y + (i * levels.size() + l) * F);
}

template <int D, int F>
void scatter_chunk(const GridLevel& level, Interpolation interpolation, const float* x, const float* dL_dy, float* grad,
                   int64_t n) {
  const Axes<D> axes(x, n);
  scatter_level<D, F>(level, interpolation, axes.x, n, dL_dy, F, grad);
}
template <int D, int F>
void scatter_chunk(const GridLevel& level, Interpolation interpolation, const double* x, const double* dL_dy,
                   double* grad, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    grid_backward_table<double, D, F>(level, interpolation, x + i * D, dL_dy + i * F, grad);
}

}  // namespace

std::vector<GridLevel> hash_grid_levels(const GridConfig& config) {
  std::vector<GridLevel> levels;
  int64_t offset = 0;
  for (int l = 0; l < config.n_levels; ++l) {
    levels.push_back(grid_level(config, l, offset));
    offset += levels.back().n_entries;
  }
  return levels;
}

template <typename T, typename P>
void hash_grid_forward(const GridConfig& config, const T* x, const P* params, MaxLevel max_level, T* y, int64_t n) {
  const std::vector<GridLevel> levels = hash_grid_levels(config);
  dispatch_grid(config, [&](auto D, auto F) {
    const int64_t width = int64_t(config.n_levels) * F;
    parallel_ranges(n, kChunk, [&](int64_t begin, int64_t end) {
      T* rows = y + begin * width;
      forward_chunk<P, D, F>(config, levels, x + begin * D, params, rows, end - begin);
      for (int l = 0; l < config.n_levels; ++l)
        hide(rows + l * F, width, F, begin, end - begin, max_level, l, config.n_levels);
    });
  });
}

template <typename T>
void hash_grid_backward_params(const GridConfig& config, const T* x, const T* dL_dy, MaxLevel max_level, T* dL_dparams,
                               int64_t n) {
  const std::vector<GridLevel> levels = hash_grid_levels(config);
  dispatch_grid(config, [&](auto D, auto F) {
    const int64_t width = int64_t(config.n_levels) * F;
    parallel_tasks(config.n_levels, [&](int64_t task, int) {
      const int l = config.n_levels - 1 - static_cast<int>(task);  // the costly fine levels first
      const GridLevel& level = levels[l];
      T* grad = dL_dparams + level.offset * F;
      std::fill_n(grad, int64_t(level.n_entries) * F, T(0));
      T rows[kChunk * F];
      for (int64_t begin = 0; begin < n; begin += kChunk) {
        const int64_t count = std::min(kChunk, n - begin);
        for (int64_t i = 0; i < count; ++i) std::copy_n(dL_dy + (begin + i) * width + l * F, int(F), rows + i * F);
        hide(rows, F, F, begin, count, max_level, l, config.n_levels);
        scatter_chunk<D, F>(level, config.interpolation, x + begin * D, rows, grad, count);
      }
    });
  });
}

#define NF_INSTANTIATE(T, P) \
  template void hash_grid_forward(const GridConfig&, const T*, const P*, MaxLevel, T*, int64_t);
NF_INSTANTIATE(float, float)
NF_INSTANTIATE(float, half)
NF_INSTANTIATE(double, double)
template void hash_grid_backward_params(const GridConfig&, const float*, const float*, MaxLevel, float*, int64_t);
template void hash_grid_backward_params(const GridConfig&, const double*, const double*, MaxLevel, double*, int64_t);

}  // namespace nf::cpu
