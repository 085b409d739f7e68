// SPDX-License-Identifier: Apache-2.0
#include "cpu/hash_grid.h"

#include <algorithm>

#include "core/buffer_pool.h"
#include "core/parallel.h"
#include "cpu/hash_grid_scatter.h"
#include "cpu/hash_grid_tile.h"
#include "cpu/level_rows.h"
#include "cpu/table_adam.h"
#include "cpu/tile_memory.h"
#include "ops/hash_grid_dispatch.h"

namespace nf::cpu {
namespace {

// Samples of one task, which pass through all levels together: their features stay in the second cache.
constexpr int64_t kChunk = 2048;
constexpr int64_t kLineFloats = 16;  // of a cache line

// Scratch of the buffer pool: a step does not fault the same megabytes in again.
class Scratch {
 public:
  explicit Scratch(int64_t n) : data_(static_cast<float*>(acquire_buffer(n * sizeof(float)))) {}
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;
  ~Scratch() { release_buffer(data_); }
  float* get() const { return data_; }

 private:
  float* data_;
};

// Positions [n, D] as one array per axis.
template <int D>
struct Axes {
  Scratch values;
  const float* x[D];

  Axes(const float* positions, int64_t n) : values(D * n) {
    for (int d = 0; d < D; ++d) x[d] = values.get() + d * n;
    parallel_ranges(n, kChunk, [&](int64_t begin, int64_t end) {
      for (int d = 0; d < D; ++d)
        for (int64_t i = begin; i < end; ++i) values.get()[d * n + i] = positions[i * D + d];
    });
  }
};

// Zeroes the rows of the levels that max_level hides; values [n, n_levels, F].
template <typename T>
void hide(T* values, const GridConfig& config, MaxLevel max_level, int64_t n) {
  if (!max_level.values) return;
  const int F = config.n_features_per_level;
  parallel_for(n, [&](int64_t i) {
    for (int l = 0; l < config.n_levels; ++l)
      if (max_level.hides(l, config.n_levels, i)) std::fill_n(values + (i * config.n_levels + l) * F, F, T(0));
  });
}

template <typename P, int D, int F>
void forward(const GridConfig& config, const std::vector<GridLevel>& levels, const float* x, const P* params, float* y,
             int64_t n) {
  // one line more than a power of two: levels would share cache sets
  constexpr int64_t level_stride = kChunk * F + kLineFloats;
  parallel_ranges(n, kChunk, [&](int64_t begin, int64_t end) {
    thread_local ThreadMemory memory;
    float* by_level = memory.at_least<float>(config.n_levels * level_stride + D * kChunk);
    float* axes = by_level + config.n_levels * level_stride;
    const float* axis[D];
    for (int d = 0; d < D; ++d) {
      axis[d] = axes + d * kChunk;
      for (int64_t i = begin; i < end; ++i) axes[d * kChunk + i - begin] = x[i * D + d];
    }
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

// Calls use(level_idx) for all levels, the costly fine ones first.
template <typename Use>
void for_levels(const GridConfig& config, const Use& use) {
  parallel_tasks(config.n_levels, [&](int64_t task, int) { use(config.n_levels - 1 - static_cast<int>(task)); });
}

// Gradients of the features [n, n_levels, F] with hidden levels zeroed, as one block [n, F] per level.
template <int D, int F>
struct LevelGradients {
  Axes<D> axes;
  int64_t n, stride;  // of whole lines
  Scratch by_level;

  LevelGradients(const GridConfig& config, const float* x, const float* dL_dy, MaxLevel max_level, int64_t n)
      : axes(x, n),
        n(n),
        stride((n * F + kLineFloats - 1) / kLineFloats * kLineFloats),
        by_level(config.n_levels * stride) {
    const int64_t width = config.n_levels * F;
    parallel_ranges(n, 256, [&](int64_t begin, int64_t end) {
      samples_to_levels<F>(dL_dy + begin * width, width, config.n_levels, end - begin, by_level.get() + begin * F,
                           stride);
      finish_streams();
    });
    if (!max_level.values) return;
    parallel_for(n, [&](int64_t i) {
      for (int l = 0; l < config.n_levels; ++l)
        if (max_level.hides(l, config.n_levels, i)) std::fill_n(by_level.get() + l * stride + i * F, F, 0.0f);
    });
  }
  void scatter(const GridConfig& config, const GridLevel& level, int l, float* grad) const {
    scatter_level<D, F>(level, config.interpolation, axes.x, n, by_level.get() + l * stride, F, grad);
  }
};

template <int D, int F>
void backward(const GridConfig& config, const std::vector<GridLevel>& levels, const float* x, const float* dL_dy,
              MaxLevel max_level, float* dL_dparams, int64_t n) {
  const LevelGradients<D, F> gradients(config, x, dL_dy, max_level, n);
  for_levels(config, [&](int l) {
    float* grad = dL_dparams + levels[l].offset * F;
    std::fill_n(grad, int64_t(levels[l].n_entries) * F, 0.0f);
    gradients.scatter(config, levels[l], l, grad);
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
  hide(y, config, max_level, n);
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
    const LevelGradients<D, F> gradients(config, x, dL_dy, MaxLevel{}, n);
    table_adam(levels, F, run, arrays, grad_scratch,
               [&](int l, float* grad) { gradients.scatter(config, levels[l], l, grad); });
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
