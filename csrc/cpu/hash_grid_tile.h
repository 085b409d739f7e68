// SPDX-License-Identifier: Apache-2.0
// The grid encoding of a run of samples in one level, in SIMD: building blocks of the operator and of the fused
// kernels. Positions come as one array per axis. Blocks of 64 samples pass through two stages: indices with prefetches
// one block ahead, then interpolation or scatter; without the prefetch, levels beyond L2 are 2 to 5 times slower. Work
// level by level with at least 300 samples a call; the more, the longer a level's table stays in cache. Cells and
// indices equal those of math/hash_grid.h bit for bit; interpolation rounds as nested lerps.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "core/bf16.h"
#include "core/gather.h"
#include "core/simd.h"
#include "math/hash_grid.h"

namespace nf::cpu {

namespace detail {

constexpr int64_t kPrefetchBytes = 640 * 1024;  // tables below stay in L2, where prefetching only costs

NF_HD vf smoothstep(vf f) { return f * f * (3.0f - 2.0f * f); }

// Where up to kSize samples lie in a level.
template <int D>
struct GridBlock {
  static constexpr int kSize = 64;
  uint32_t indices[1 << D][kSize];  // of the corners
  float upper[D][kSize];            // interpolation weight of the upper vertex on each axis

  // `x` holds whole vectors. Rows of `row_bytes` at `rows` are prefetched when that is not null.
  template <bool kHashed>
  NF_HD void prepare(const GridLevel& level, Interpolation interpolation, const float* const* x, int64_t begin, int n,
                     const char* rows, int64_t row_bytes) {
    const int n_corners = interpolation == Interpolation::kNearest ? 1 : 1 << D;
    for (int j = 0; j < n; j += kLanes) {
      vu products[D];
      for (int d = 0; d < D; ++d) {
        const vf position = fma(splat(level.scale), load(x[d] + begin + j), splat(0.5f));
        const vf f = position - floor(position);
        products[d] = (vu)floor_to_int(position) * level.factors[d];
        store(upper[d] + j, interpolation == Interpolation::kLinear       ? f
                            : interpolation == Interpolation::kSmoothstep ? smoothstep(f)
                                                                          : f - f);  // 0, or NaN where x is not finite
      }
      for (int k = 0; k < n_corners; ++k) {
        store(indices[k] + j, index<kHashed>(level, products, k));
        if (rows)
          for (int l = 0; l < kLanes; ++l) __builtin_prefetch(rows + indices[k][j + l] * row_bytes);
      }
    }
  }

  template <bool kHashed>
  NF_HD static vu index(const GridLevel& level, const vu (&products)[D], int corner) {
    vu index{};
    for (int d = 0; d < D; ++d) {
      const vu product = corner >> d & 1 ? products[d] + level.factors[d] : products[d];
      index = kHashed ? index ^ product : index + product;
    }
    if (kHashed || level.mask != 0) return index & level.mask;
    if (any((vi)(index >= level.n_entries)))
      for (int l = 0; l < kLanes; ++l) index[l] = index[l] % level.n_entries;
    return index;
  }
};

// Calls use(block, begin, n) for all samples in order, each block prepared while the one before is used.
template <bool kHashed, int D, typename Use>
NF_HD void for_blocks(const GridLevel& level, Interpolation interpolation, const float* const* x, int64_t n,
                      const void* table, int64_t row_bytes, const Use& use) {
  constexpr int kSize = GridBlock<D>::kSize;
  const bool prefetch = level.n_entries * row_bytes > kPrefetchBytes;
  const char* rows = prefetch ? static_cast<const char*>(table) : nullptr;
  GridBlock<D> blocks[2];
  const auto prepare = [&](int64_t begin) {
    GridBlock<D>& block = blocks[begin / kSize % 2];
    if (n - begin >= kSize) {
      block.template prepare<kHashed>(level, interpolation, x, begin, kSize, rows, row_bytes);
      return;
    }
    float padded[D][kSize] = {};
    const float* tail[D];
    for (int d = 0; d < D; ++d) {
      std::copy_n(x[d] + begin, n - begin, padded[d]);
      tail[d] = padded[d];
    }
    block.template prepare<kHashed>(level, interpolation, tail, 0, static_cast<int>(n - begin), rows, row_bytes);
  };
  if (n > 0) prepare(0);
  for (int64_t begin = 0; begin < n; begin += kSize) {
    if (begin + kSize < n) prepare(begin + kSize);
    use(blocks[begin / kSize % 2], begin, static_cast<int>(std::min<int64_t>(kSize, n - begin)));
  }
}

// Features of `corner` and of all corners above it on the axes below kAxes, interpolated along those axes. Depth
// first, so that few vectors are alive. lo + w (hi - lo) reproduces constants exactly.
template <int kAxes, typename P, int D, int F>
NF_HD void interpolate(const P* table, const GridBlock<D>& block, int j, const vf (&upper)[D][F], int corner,
                       vf (&out)[F]) {
  if constexpr (kAxes == 0) {
    gather_rows<P, F>(table, load(block.indices[corner] + j), out);
  } else {
    vf hi[F];
    interpolate<kAxes - 1>(table, block, j, upper, corner, out);
    interpolate<kAxes - 1>(table, block, j, upper, corner | 1 << (kAxes - 1), hi);
    for (int v = 0; v < F; ++v) out[v] = madd(upper[kAxes - 1][v], hi[v] - out[v], out[v]);
  }
}

template <typename P, int D, int F>
NF_HD void encode_vector(Interpolation interpolation, const P* table, const GridBlock<D>& block, int j, vf (&out)[F]) {
  vf upper[D][F];
  for (int d = 0; d < D; ++d) spread<F>(load(block.upper[d] + j), upper[d]);
  if (interpolation != Interpolation::kNearest) return interpolate<D>(table, block, j, upper, 0, out);
  gather_rows<P, F>(table, load(block.indices[0] + j), out);
  for (int d = 0; d < D; ++d)
    for (int v = 0; v < F; ++v) out[v] += upper[d][v];
}

template <int F, typename Out>
NF_HD void store_rows(const vf (&rows)[F], int n_rows, Out* out, int64_t out_stride) {
  if (out_stride == F && n_rows == kLanes) {
    for (int v = 0; v < F; ++v) store(out + v * kLanes, rows[v]);
    return;
  }
  Out buffer[kLanes * F];
  for (int v = 0; v < F; ++v) store(buffer + v * kLanes, rows[v]);
  for (int l = 0; l < n_rows; ++l) std::memcpy(out + l * out_stride, buffer + l * F, F * sizeof(Out));
}

template <int F>
struct Row {  // F floats that are added as one
  typedef float Values __attribute__((vector_size(F * sizeof(float))));
};
template <>
struct Row<1> {
  typedef float Values;
};

template <int D, int F>
NF_HD void scatter_vector(Interpolation interpolation, const GridBlock<D>& block, int j, int n_rows, const float* dL_dy,
                          int64_t dL_dy_stride, float* grad) {
  using Values = typename Row<F>::Values;
  const int n_corners = interpolation == Interpolation::kNearest ? 1 : 1 << D;
  float weights[1 << D][kLanes];
  for (int k = 0; k < n_corners; ++k) {
    vf w = splat(1.0f);
    for (int d = 0; d < D; ++d) {
      const vf upper = load(block.upper[d] + j);
      w *= k >> d & 1 ? upper : 1.0f - upper;
    }
    store(weights[k], w);
  }
  for (int l = 0; l < n_rows; ++l) {
    Values g;
    std::memcpy(&g, dL_dy + l * dL_dy_stride, sizeof g);
    for (int k = 0; k < n_corners; ++k) {
      float* entry = grad + int64_t(block.indices[k][j + l]) * F;
      Values sum;
      std::memcpy(&sum, entry, sizeof sum);
      sum += weights[k][l] * g;
      std::memcpy(entry, &sum, sizeof sum);
    }
  }
}

// Calls run(std::true_type) for hashed levels and run(std::false_type) for others.
template <typename Run>
NF_HD void with_hashed(const GridLevel& level, const Run& run) {
  level.hashed ? run(std::true_type()) : run(std::false_type());
}

}  // namespace detail

// out[i * out_stride + f] = feature f of sample i, i < n. `table` [n_entries, F] is this level's, half or float;
// x[d] [n]. Out: float or bf16.
template <typename P, int D, int F, typename Out>
void encode_level(const GridLevel& level, Interpolation interpolation, const P* table, const float* const* x, int64_t n,
                  Out* out, int64_t out_stride) {
  const auto use = [&](const detail::GridBlock<D>& block, int64_t begin, int n_block) {
    for (int j = 0; j < n_block; j += kLanes) {
      vf rows[F];
      detail::encode_vector<P, D, F>(interpolation, table, block, j, rows);
      detail::store_rows<F>(rows, std::min(kLanes, n_block - j), out + (begin + j) * out_stride, out_stride);
    }
  };
  detail::with_hashed(level, [&](auto hashed) {
    detail::for_blocks<hashed.value, D>(level, interpolation, x, n, table, F * sizeof(P), use);
  });
}

// grad[corner][f] += weight * dL_dy[i * dL_dy_stride + f] for all corners of all samples, in the order of samples.
// `grad` [n_entries, F] is this level's; one caller at a time.
template <int D, int F>
void scatter_level(const GridLevel& level, Interpolation interpolation, const float* const* x, int64_t n,
                   const float* dL_dy, int64_t dL_dy_stride, float* grad) {
  const auto use = [&](const detail::GridBlock<D>& block, int64_t begin, int n_block) {
    for (int j = 0; j < n_block; j += kLanes)
      detail::scatter_vector<D, F>(interpolation, block, j, std::min(kLanes, n_block - j),
                                   dL_dy + (begin + j) * dL_dy_stride, dL_dy_stride, grad);
  };
  detail::with_hashed(level, [&](auto hashed) {
    detail::for_blocks<hashed.value, D>(level, interpolation, x, n, grad, F * sizeof(float), use);
  });
}

}  // namespace nf::cpu
