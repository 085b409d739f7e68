// SPDX-License-Identifier: Apache-2.0
// What the kernels of the grid encoding share. A thread takes one sample through as many consecutive levels as fill a
// sector of 32 bytes of y, blockIdx.y names these levels: all writes and reads of y are whole sectors, and thread
// blocks of one row of the grid meet in the tables of a few levels, which stay in the second-level cache.
#pragma once

#include "cuda/launch.h"
#include "ops/hash_grid.h"
#include "ops/hash_grid_dispatch.h"

namespace nf::cuda {

constexpr int kMaxBatch = 32;  // levels of one launch: 1.5 KB of its arguments

struct LevelBatch {
  GridLevel levels[kMaxBatch];
  int first, n;  // levels[0] is level `first` of n_levels
  int n_levels;
};

template <typename T, int F>
constexpr int kSectorLevels = 32 / (F * sizeof(T)) > 1 ? 32 / (F * sizeof(T)) : 1;

// What all kernels read; L * F values of features per sample.
template <typename T>
struct GridSamples {
  Interpolation interpolation;
  const T* x;  // [n, D]
  MaxLevel max_level;
  int64_t n;

  template <int D>
  NF_DEVICE void position(int64_t i, T (&x_i)[D]) const {
    NF_UNROLL for (int d = 0; d < D; ++d) x_i[d] = x[i * D + d];
  }
  NF_DEVICE bool hides(const LevelBatch& batch, int l, int64_t i) const {
    return max_level.hides(batch.first + l, batch.n_levels, i);
  }
};

// Calls launch(batch) for all levels of a grid.
template <typename Launch>
void for_batches(const GridConfig& config, const Launch& launch) {
  const std::vector<GridLevel> levels = hash_grid_levels(config);
  for (int first = 0; first < config.n_levels; first += kMaxBatch) {
    LevelBatch batch;
    batch.first = first;
    batch.n = min(kMaxBatch, config.n_levels - first);
    batch.n_levels = config.n_levels;
    for (int l = 0; l < batch.n; ++l) batch.levels[l] = levels[first + l];
    launch(batch);
  }
}

// Atomic counterparts of AddPlainly: the order of additions is that of the device.
struct AddAtomically {
  template <typename T>
  NF_DEVICE T term(T value) const {
    return value;
  }
  template <typename T, int F>
  NF_DEVICE void operator()(T* entry, const T (&values)[F]) const {
    NF_UNROLL for (int f = 0; f < F; ++f) atomicAdd(entry + f, values[f]);
  }
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900  // one transaction for a whole entry
  NF_DEVICE void operator()(float* entry, const float (&values)[2]) const {
    atomicAdd(reinterpret_cast<float2*>(entry), make_float2(values[0], values[1]));
  }
  NF_DEVICE void operator()(float* entry, const float (&values)[4]) const {
    atomicAdd(reinterpret_cast<float4*>(entry), make_float4(values[0], values[1], values[2], values[3]));
  }
  NF_DEVICE void operator()(float* entry, const float (&values)[8]) const {
    NF_UNROLL for (int half = 0; half < 8; half += 4)
        atomicAdd(reinterpret_cast<float4*>(entry + half),
                  make_float4(values[half], values[half + 1], values[half + 2], values[half + 3]));
  }
#endif
};

}  // namespace nf::cuda
