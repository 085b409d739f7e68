// SPDX-License-Identifier: Apache-2.0
// Samples as passes over the levels of a grid need them: positions by axis, gradients by level.
#pragma once

#include <algorithm>
#include <cstdint>

#include "core/buffer_pool.h"
#include "core/parallel.h"
#include "cpu/level_rows.h"
#include "cpu/tile_memory.h"
#include "math/hash_grid.h"

namespace nf::cpu {

// Samples of one task, which pass through all levels together: their features stay in the second cache.
constexpr int64_t kGridChunk = 2048;
constexpr int64_t kLineFloats = 16;  // of a cache line

inline int64_t whole_lines(int64_t n_floats) { return (n_floats + kLineFloats - 1) / kLineFloats * kLineFloats; }

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

// by_axis[d * stride + i] = values[i * D + d]
template <int D>
NF_HD void rows_to_axes(const float* values, int64_t n, float* by_axis, int64_t stride) {
  for (int d = 0; d < D; ++d)
    for (int64_t i = 0; i < n; ++i) by_axis[d * stride + i] = values[i * D + d];
}

// Rows [n, D] as one array per axis, which whole vectors may be read from.
template <int D>
struct Axes {
  Scratch values;
  const float* x[D];

  Axes(const float* rows, int64_t n) : values(D * whole_lines(n)) {
    const int64_t stride = whole_lines(n);
    for (int d = 0; d < D; ++d) x[d] = values.get() + d * stride;
    parallel_ranges(n, kGridChunk, [&](int64_t begin, int64_t end) {
      rows_to_axes<D>(rows + begin * D, end - begin, values.get() + begin, stride);
    });
  }
};

// Zeroes the rows of the levels that max_level hides; values [n, n_levels, F].
template <typename T>
void hide_levels(T* values, const GridConfig& config, MaxLevel max_level, int64_t n) {
  if (!max_level.values) return;
  const int F = config.n_features_per_level;
  parallel_for(n, [&](int64_t i) {
    for (int l = 0; l < config.n_levels; ++l)
      if (max_level.hides(l, config.n_levels, i)) std::fill_n(values + (i * config.n_levels + l) * F, F, T(0));
  });
}

// Calls use(level_idx) for all levels, the costly fine ones first.
template <typename Use>
void for_levels(const GridConfig& config, const Use& use) {
  parallel_tasks(config.n_levels, [&](int64_t task, int) { use(config.n_levels - 1 - static_cast<int>(task)); });
}

// Gradients of the features [n, n_levels, F] with hidden levels zeroed, as one block [n, F] per level.
template <int F>
class LevelGradients {
 public:
  LevelGradients(const GridConfig& config, const float* dL_dy, MaxLevel max_level, int64_t n)
      : stride_(whole_lines(n * F)), by_level_(config.n_levels * stride_) {
    const int64_t width = config.n_levels * F;
    parallel_ranges(n, 256, [&](int64_t begin, int64_t end) {
      samples_to_levels<F>(dL_dy + begin * width, width, config.n_levels, end - begin, by_level_.get() + begin * F,
                           stride_);
      finish_streams();
    });
    if (!max_level.values) return;
    parallel_for(n, [&](int64_t i) {
      for (int l = 0; l < config.n_levels; ++l)
        if (max_level.hides(l, config.n_levels, i)) std::fill_n(by_level_.get() + l * stride_ + i * F, F, 0.0f);
    });
  }
  const float* operator[](int level_idx) const { return by_level_.get() + level_idx * stride_; }

 private:
  int64_t stride_;
  Scratch by_level_;
};

}  // namespace nf::cpu
