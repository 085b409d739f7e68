// SPDX-License-Identifier: Apache-2.0
// The grid encoding of a run of samples in one level, in SIMD: building blocks of the operator and of the fused
// kernels. Positions come as one array per axis. Call level by level with 300 to 20 000 samples: a level's table (2 MB
// at T = 2^19, F = 2, fp16) then stays in cache, which samples-first order loses (2 to 3 times slower). Cells and
// indices equal those of math/hash_grid.h bit for bit; interpolation rounds as nested lerps.
#pragma once

#include <cstdint>
#include <cstring>

#include "core/gather.h"
#include "core/simd.h"
#include "math/hash_grid.h"

namespace nf::cpu {

namespace detail {

// kLanes samples in one level. `upper[i]` is the interpolation weight of the upper vertex on axis i.
template <int D>
struct CellVector {
  vu products[D];
  vf upper[D];

  NF_HD CellVector(const GridLevel& level, Interpolation interpolation, const float* const* x, int64_t i) {
    for (int d = 0; d < D; ++d) {
      const vf position = fma(splat(level.scale), load(x[d] + i), splat(0.5f));
      const vf lower = floor(position);
      products[d] = (vu)floor_to_int(position) * level.factors[d];
      const vf f = position - lower;
      upper[d] = interpolation == Interpolation::kLinear       ? f
                 : interpolation == Interpolation::kSmoothstep ? smoothstep(f)
                                                               : f - f;
    }
  }
  NF_HD static vf smoothstep(vf f) { return f * f * (3.0f - 2.0f * f); }

  template <bool kHashed>
  NF_HD vu index(const GridLevel& level, int corner) const {
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

// Features of `corner` and of all corners above it on the axes below kAxes, interpolated along those axes. Depth
// first, so that few vectors are alive. lo + w (hi - lo) reproduces constants exactly.
template <int kAxes, bool kHashed, typename P, int D, int F>
NF_HD void interpolate(const GridLevel& level, const P* table, const CellVector<D>& cell, const vf (&upper)[D][F],
                       int corner, vf (&out)[F]) {
  if constexpr (kAxes == 0) {
    gather_rows<P, F>(table, cell.template index<kHashed>(level, corner), out);
  } else {
    vf hi[F];
    interpolate<kAxes - 1, kHashed>(level, table, cell, upper, corner, out);
    interpolate<kAxes - 1, kHashed>(level, table, cell, upper, corner | 1 << (kAxes - 1), hi);
    for (int v = 0; v < F; ++v) out[v] = madd(upper[kAxes - 1][v], hi[v] - out[v], out[v]);
  }
}

template <bool kHashed, typename P, int D, int F>
NF_HD void encode_vector(const GridLevel& level, Interpolation interpolation, const P* table, const float* const* x,
                         int64_t i, vf (&out)[F]) {
  const CellVector<D> cell(level, interpolation, x, i);
  if (interpolation == Interpolation::kNearest) {
    gather_rows<P, F>(table, cell.template index<kHashed>(level, 0), out);
    for (int d = 0; d < D; ++d) {
      vf zero_or_nan[F];
      spread<F>(cell.upper[d], zero_or_nan);
      for (int v = 0; v < F; ++v) out[v] += zero_or_nan[v];
    }
    return;
  }
  vf upper[D][F];
  for (int d = 0; d < D; ++d) spread<F>(cell.upper[d], upper[d]);
  interpolate<D, kHashed>(level, table, cell, upper, 0, out);
}

template <int F>
NF_HD void store_rows(const vf (&rows)[F], int n_rows, float* out, int64_t out_stride) {
  float buffer[kLanes * F];
  for (int v = 0; v < F; ++v) store(buffer + v * kLanes, rows[v]);
  for (int l = 0; l < n_rows; ++l) std::memcpy(out + l * out_stride, buffer + l * F, F * sizeof(float));
}

// The last samples of a run, padded with zeros to a whole vector.
template <int D>
struct Tail {
  float values[D][kLanes] = {};
  const float* x[D];
  Tail(const float* const* source, int64_t begin, int64_t n) {
    for (int d = 0; d < D; ++d) {
      std::memcpy(values[d], source[d] + begin, (n - begin) * sizeof(float));
      x[d] = values[d];
    }
  }
};

template <bool kHashed, typename P, int D, int F>
void encode_run(const GridLevel& level, Interpolation interpolation, const P* table, const float* const* x, int64_t n,
                float* out, int64_t out_stride) {
  vf rows[F];
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes) {
    encode_vector<kHashed, P, D, F>(level, interpolation, table, x, i, rows);
    store_rows<F>(rows, kLanes, out + i * out_stride, out_stride);
  }
  if (i == n) return;
  const Tail<D> tail(x, i, n);
  encode_vector<kHashed, P, D, F>(level, interpolation, table, tail.x, 0, rows);
  store_rows<F>(rows, static_cast<int>(n - i), out + i * out_stride, out_stride);
}

template <bool kHashed, int D, int F>
NF_HD void scatter_vector(const GridLevel& level, Interpolation interpolation, const float* const* x, int64_t i,
                          int n_rows, const float* dL_dy, int64_t dL_dy_stride, float* grad) {
  const CellVector<D> cell(level, interpolation, x, i);
  const int n_corners = interpolation == Interpolation::kNearest ? 1 : 1 << D;
  uint32_t indices[1 << D][kLanes];
  float weights[1 << D][kLanes];
  for (int k = 0; k < n_corners; ++k) {
    store(indices[k], cell.template index<kHashed>(level, k));
    vf w = splat(1.0f);
    for (int d = 0; d < D; ++d) w *= k >> d & 1 ? cell.upper[d] : 1.0f - cell.upper[d];
    store(weights[k], w);
  }
  for (int l = 0; l < n_rows; ++l) {
    const float* g = dL_dy + l * dL_dy_stride;
    for (int k = 0; k < n_corners; ++k) {
      float* entry = grad + int64_t(indices[k][l]) * F;
      for (int f = 0; f < F; ++f) entry[f] += weights[k][l] * g[f];
    }
  }
}

template <bool kHashed, int D, int F>
void scatter_run(const GridLevel& level, Interpolation interpolation, const float* const* x, int64_t n,
                 const float* dL_dy, int64_t dL_dy_stride, float* grad) {
  int64_t i = 0;
  for (; i + kLanes <= n; i += kLanes)
    scatter_vector<kHashed, D, F>(level, interpolation, x, i, kLanes, dL_dy + i * dL_dy_stride, dL_dy_stride, grad);
  if (i == n) return;
  const Tail<D> tail(x, i, n);
  scatter_vector<kHashed, D, F>(level, interpolation, tail.x, 0, static_cast<int>(n - i), dL_dy + i * dL_dy_stride,
                                dL_dy_stride, grad);
}

}  // namespace detail

// out[i * out_stride + f] = feature f of sample i, i < n. `table` [n_entries, F] is this level's, half or float;
// x[d] [n].
template <typename P, int D, int F>
void encode_level(const GridLevel& level, Interpolation interpolation, const P* table, const float* const* x, int64_t n,
                  float* out, int64_t out_stride) {
  if (level.hashed)
    detail::encode_run<true, P, D, F>(level, interpolation, table, x, n, out, out_stride);
  else
    detail::encode_run<false, P, D, F>(level, interpolation, table, x, n, out, out_stride);
}

// grad[corner][f] += weight * dL_dy[i * dL_dy_stride + f] for all corners of all samples, in the order of samples.
// `grad` [n_entries, F] is this level's; one caller at a time.
template <int D, int F>
void scatter_level(const GridLevel& level, Interpolation interpolation, const float* const* x, int64_t n,
                   const float* dL_dy, int64_t dL_dy_stride, float* grad) {
  if (level.hashed)
    detail::scatter_run<true, D, F>(level, interpolation, x, n, dL_dy, dL_dy_stride, grad);
  else
    detail::scatter_run<false, D, F>(level, interpolation, x, n, dL_dy, dL_dy_stride, grad);
}

}  // namespace nf::cpu
