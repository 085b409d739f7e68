// SPDX-License-Identifier: Apache-2.0
#include "cpu/hash_grid.h"

#include <algorithm>

#include "core/parallel.h"
#include "cpu/hash_grid_levels.h"
#include "cpu/hash_grid_scatter.h"
#include "cpu/hash_grid_tile.h"
#include "cpu/table_adam.h"
#include "ops/hash_grid_dispatch.h"

namespace nf::cpu {
namespace {

template <typename P, int D, int F>
void forward(const GridConfig& config, const std::vector<GridLevel>& levels, const float* x, const P* params, float* y,
             int64_t n) {
  // one line more than a power of two: levels would share cache sets
  constexpr int64_t level_stride = kGridChunk * F + kLineFloats;
  parallel_ranges(n, kGridChunk, [&](int64_t begin, int64_t end) {
    thread_local ThreadMemory memory;
    float* by_level = memory.at_least<float>(config.n_levels * level_stride + D * kGridChunk);
    float* axes = by_level + config.n_levels * level_stride;
    const float* axis[D];
    rows_to_axes<D>(x + begin * D, end - begin, axes, kGridChunk);
    for (int d = 0; d < D; ++d) axis[d] = axes + d * kGridChunk;
    encode_levels<P, D, F>(levels.data(), config.n_levels, config.interpolation, params, axis, end - begin, by_level,
                           level_stride, F);
    const int64_t width = config.n_levels * F;
    levels_to_samples<F>(by_level, level_stride, config.n_levels, end - begin, y + begin * width, width);
    finish_streams();
  });
}
template <typename P, int D, int F>
void forward(const GridConfig& config, const std::vector<GridLevel>& levels, const double* x, const P* params,
             double* y, int64_t n) {
  parallel_for(n, [&](int64_t i) {
    for (int l = 0; l < config.n_levels; ++l)
      grid_forward<double, D, F>(levels[l], config.interpolation, params + levels[l].offset * F, x + i * D,
                                 y + (i * config.n_levels + l) * F);
  });
}

template <int D, int F>
void backward(const GridConfig& config, const std::vector<GridLevel>& levels, const float* x, const float* dL_dy,
              MaxLevel max_level, float* dL_dparams, int64_t n) {
  const Axes<D> axes(x, n);
  const LevelGradients<F> gradients(config, dL_dy, max_level, n);
  for_levels(config, [&](int l) {
    float* grad = dL_dparams + levels[l].offset * F;
    std::fill_n(grad, int64_t(levels[l].n_entries) * F, 0.0f);
    scatter_level<D, F>(levels[l], config.interpolation, axes.x, n, gradients[l], F, grad);
  });
}
template <int D, int F>
void backward(const GridConfig& config, const std::vector<GridLevel>& levels, const double* x, const double* dL_dy,
              MaxLevel max_level, double* dL_dparams, int64_t n) {
  for_levels(config, [&](int l) {
    double* grad = dL_dparams + levels[l].offset * F;
    std::fill_n(grad, int64_t(levels[l].n_entries) * F, 0.0);
    for (int64_t i = 0; i < n; ++i)
      if (!max_level.hides(l, config.n_levels, i))
        grid_backward_table<double, D, F>(levels[l], config.interpolation, x + i * D,
                                          dL_dy + (i * config.n_levels + l) * F, grad);
  });
}

}  // namespace

template <typename T, typename P>
void hash_grid_forward(const GridConfig& config, const T* x, const P* params, MaxLevel max_level, T* y, int64_t n) {
  const std::vector<GridLevel> levels = hash_grid_levels(config);
  dispatch_grid(config, [&](auto D, auto F) { forward<P, D, F>(config, levels, x, params, y, n); });
  hide_levels(y, config, max_level, n);
}

template <typename T>
void hash_grid_backward_params(const GridConfig& config, const T* x, const T* dL_dy, MaxLevel max_level, T* dL_dparams,
                               int64_t n) {
  const std::vector<GridLevel> levels = hash_grid_levels(config);
  dispatch_grid(config, [&](auto D, auto F) { backward<D, F>(config, levels, x, dL_dy, max_level, dL_dparams, n); });
}

void hash_grid_backward_adam(const GridConfig& config, const float* x, const float* dL_dy, const AdamConfig& adam,
                             int64_t step, const AdamArrays<float>& arrays, float* grad_scratch, int64_t n) {
  const std::vector<GridLevel> levels = hash_grid_levels(config);
  const AdamStep<float> run(adam, step, arrays.steps != nullptr);
  dispatch_grid(config, [&](auto D, auto F) {
    const Axes<D> axes(x, n);
    const LevelGradients<F> gradients(config, dL_dy, MaxLevel{}, n);
    table_adam(levels, F, run, arrays, grad_scratch, [&](int l, float* grad) {
      scatter_level<D, F>(levels[l], config.interpolation, axes.x, n, gradients[l], F, grad);
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
