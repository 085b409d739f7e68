// SPDX-License-Identifier: Apache-2.0
// The gradient of the grid encoding with respect to positions, and the gradients of that gradient: normals, eikonal
// terms, pose refinement. float in SIMD, double by loops over math/hash_grid.h.
#include <algorithm>

#include "core/parallel.h"
#include "cpu/hash_grid.h"
#include "cpu/hash_grid_levels.h"
#include "cpu/hash_grid_slope.h"
#include "ops/hash_grid_dispatch.h"

namespace nf::cpu {
namespace {

using Levels = std::vector<GridLevel>;

// What one chunk of samples needs, in the memory of a thread: rows [n, D] as arrays by axis, and more floats.
template <int D>
class Chunk {
 public:
  Chunk(int n_arrays, int64_t n_floats, int64_t n) : n_(n) {
    thread_local ThreadMemory memory;
    arrays_ = memory.at_least<float>(n_arrays * D * kGridChunk + n_floats);
    floats_ = arrays_ + n_arrays * D * kGridChunk;
  }
  struct Arrays {
    float* axis[D];
  };
  Arrays arrays(int idx) const {
    Arrays found;
    for (int d = 0; d < D; ++d) found.axis[d] = arrays_ + (idx * D + d) * kGridChunk;
    return found;
  }
  Arrays read(int idx, const float* rows) const {
    rows_to_axes<D>(rows, n_, arrays(idx).axis[0], kGridChunk);
    return arrays(idx);
  }
  Arrays zeros(int idx) const {
    std::fill_n(arrays(idx).axis[0], D * kGridChunk, 0.0f);
    return arrays(idx);
  }
  void write(const Arrays& values, float* rows) const {
    for (int64_t i = 0; i < n_; ++i)
      for (int d = 0; d < D; ++d) rows[i * D + d] = values.axis[d][i];
  }
  float* floats() const { return floats_; }

 private:
  int64_t n_;
  float *arrays_, *floats_;
};

// dL_dy of the samples from `begin` on, copied with hidden levels zeroed where max_level hides any.
const float* visible(const GridConfig& config, MaxLevel max_level, const float* dL_dy, int64_t begin, int64_t n,
                     float* copy) {
  const int n_levels = config.n_levels, F = config.n_features_per_level;
  dL_dy += begin * n_levels * F;
  if (!max_level.values) return dL_dy;
  for (int64_t i = 0; i < n; ++i)
    for (int l = 0; l < n_levels; ++l) {
      const int64_t row = (i * n_levels + l) * F;
      if (max_level.hides(l, n_levels, begin + i))
        std::fill_n(copy + row, F, 0.0f);
      else
        std::copy_n(dL_dy + row, F, copy + row);
    }
  return copy;
}

template <typename P, int D, int F>
void backward_input(const GridConfig& config, const Levels& levels, const float* x, const P* params, const float* dL_dy,
                    MaxLevel max_level, float* dL_dx, int64_t n) {
  parallel_ranges(n, kGridChunk, [&](int64_t begin, int64_t end) {
    const int64_t n_chunk = end - begin;
    const Chunk<D> chunk(2, max_level.values ? n_chunk * config.n_levels * F : 0, n_chunk);
    const float* gradients = visible(config, max_level, dL_dy, begin, n_chunk, chunk.floats());
    const auto at = chunk.read(0, x + begin * D), sums = chunk.zeros(1);
    add_input_gradients<P, D, F>(levels.data(), config.n_levels, config.interpolation, params, at.axis, n_chunk,
                                 gradients, sums.axis);
    chunk.write(sums, dL_dx + begin * D);
  });
}
template <typename P, int D, int F>
void backward_input(const GridConfig& config, const Levels& levels, const double* x, const P* params,
                    const double* dL_dy, MaxLevel max_level, double* dL_dx, int64_t n) {
  const int n_levels = config.n_levels;
  std::fill_n(dL_dx, n * D, 0.0);
  parallel_for(n, [&](int64_t i) {
    for (int l = 0; l < n_levels; ++l)
      if (!max_level.hides(l, n_levels, i))
        grid_backward_input<double, D, F>(levels[l], config.interpolation, params + levels[l].offset * F, x + i * D,
                                          dL_dy + (i * n_levels + l) * F, dL_dx + i * D);
  });
}

// What belongs to a sample: tasks are ranges of samples. Outputs as below.
template <typename P, int D, int F>
void second_of_samples(const GridConfig& config, const Levels& levels, const float* x, const P* params,
                       const float* dL_dy, const float* v, MaxLevel max_level, float* dH_ddL_dy, float* dH_dx,
                       int64_t n) {
  constexpr int64_t level_stride = kGridChunk * F + kLineFloats;  // as in the forward pass
  const int n_levels = config.n_levels;
  parallel_ranges(n, kGridChunk, [&](int64_t begin, int64_t end) {
    const int64_t n_chunk = end - begin, width = n_levels * F;
    const Chunk<D> chunk(3, n_levels * level_stride, n_chunk);
    const auto at = chunk.read(0, x + begin * D), along = chunk.read(1, v + begin * D);
    if (dH_ddL_dy) {
      encode_levels_along<P, D, F>(levels.data(), n_levels, config.interpolation, params, at.axis, along.axis, n_chunk,
                                   chunk.floats(), level_stride);
      levels_to_samples<F>(chunk.floats(), level_stride, n_levels, n_chunk, dH_ddL_dy + begin * width, width);
      finish_streams();
    }
    if (dH_dx) {
      const float* gradients = visible(config, max_level, dL_dy, begin, n_chunk, chunk.floats());
      const auto sums = chunk.zeros(2);
      add_second_input_gradients<P, D, F>(levels.data(), n_levels, config.interpolation, params, at.axis, along.axis,
                                          n_chunk, gradients, sums.axis);
      chunk.write(sums, dH_dx + begin * D);
    }
  });
  if (dH_ddL_dy) hide_levels(dH_ddL_dy, config, max_level, n);
}
template <typename P, int D, int F>
void second_of_samples(const GridConfig& config, const Levels& levels, const double* x, const P* params,
                       const double* dL_dy, const double* v, MaxLevel max_level, double* dH_ddL_dy, double* dH_dx,
                       int64_t n) {
  const int n_levels = config.n_levels;
  double* none = nullptr;
  if (dH_ddL_dy) std::fill_n(dH_ddL_dy, n * n_levels * F, 0.0);
  if (dH_dx) std::fill_n(dH_dx, n * D, 0.0);
  parallel_for(n, [&](int64_t i) {
    for (int l = 0; l < n_levels; ++l) {
      const int64_t row = (i * n_levels + l) * F;
      if (!max_level.hides(l, n_levels, i))
        grid_backward_backward_input<double, D, F>(
            levels[l], config.interpolation, params + levels[l].offset * F, x + i * D, dL_dy + row, v + i * D, none,
            dH_ddL_dy ? dH_ddL_dy + row : nullptr, dH_dx ? dH_dx + i * D : nullptr);
    }
  });
}

// The table: tasks are levels, which they own.
template <int D, int F>
void second_of_table(const GridConfig& config, const Levels& levels, const float* x, const float* dL_dy, const float* v,
                     MaxLevel max_level, float* dH_dparams, int64_t n) {
  const Axes<D> at(x, n), along(v, n);
  const LevelGradients<F> gradients(config, dL_dy, max_level, n);
  for_levels(config, [&](int l) {
    float* table = dH_dparams + levels[l].offset * F;
    std::fill_n(table, int64_t(levels[l].n_entries) * F, 0.0f);
    scatter_level_along<D, F>(levels[l], config.interpolation, at.x, along.x, n, gradients[l], table);
  });
}
template <int D, int F>
void second_of_table(const GridConfig& config, const Levels& levels, const double* x, const double* dL_dy,
                     const double* v, MaxLevel max_level, double* dH_dparams, int64_t n) {
  const int n_levels = config.n_levels;
  double* none = nullptr;
  for_levels(config, [&](int l) {
    double* table = dH_dparams + levels[l].offset * F;
    std::fill_n(table, int64_t(levels[l].n_entries) * F, 0.0);
    for (int64_t i = 0; i < n; ++i)
      if (!max_level.hides(l, n_levels, i))
        grid_backward_backward_input<double, D, F>(levels[l], config.interpolation, none, x + i * D,
                                                   dL_dy + (i * n_levels + l) * F, v + i * D, table, none, none);
  });
}

}  // namespace

template <typename T, typename P>
void hash_grid_backward_input(const GridConfig& config, const T* x, const P* params, const T* dL_dy, MaxLevel max_level,
                              T* dL_dx, int64_t n) {
  if (config.interpolation == Interpolation::kNearest) {
    std::fill_n(dL_dx, n * config.n_dims, T(0));
    return;
  }
  const Levels levels = hash_grid_levels(config);
  dispatch_grid(
      config, [&](auto D, auto F) { backward_input<P, D, F>(config, levels, x, params, dL_dy, max_level, dL_dx, n); });
}

template <typename T, typename P>
void hash_grid_backward_backward_input(const GridConfig& config, const T* x, const P* params, const T* dL_dy,
                                       const T* v, MaxLevel max_level, T* dH_dparams, T* dH_ddL_dy, T* dH_dx,
                                       int64_t n) {
  const Levels levels = hash_grid_levels(config);
  if (config.interpolation == Interpolation::kNearest) {
    const int F = config.n_features_per_level;
    if (dH_dparams) std::fill_n(dH_dparams, (levels.back().offset + levels.back().n_entries) * F, T(0));
    if (dH_ddL_dy) std::fill_n(dH_ddL_dy, n * config.n_levels * F, T(0));
    if (dH_dx) std::fill_n(dH_dx, n * config.n_dims, T(0));
    return;
  }
  dispatch_grid(config, [&](auto D, auto F) {
    if (dH_ddL_dy || dH_dx)
      second_of_samples<P, D, F>(config, levels, x, params, dL_dy, v, max_level, dH_ddL_dy, dH_dx, n);
    if (dH_dparams) second_of_table<D, F>(config, levels, x, dL_dy, v, max_level, dH_dparams, n);
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
