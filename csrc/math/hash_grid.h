// SPDX-License-Identifier: Apache-2.0
// Multi-resolution grid encoding (Müller et al. 2022) with the level sizes, indices and hash of tiny-cuda-nn, bit for
// bit. Level l has `resolution` vertices per axis; x in [0,1]^D falls into cell floor(scale x + 0.5) and the features
// of its 2^D corners are interpolated. Fine levels do not store all vertices: they hash them (Hash) or repeat (Tiled).
// Any finite x is valid (indices wrap; from 2^31 cells on, to another vertex on another device); a NaN or infinite x
// gives NaN features.
// Positions are rounded once (fma), so cells agree between scalar, SIMD and device code.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/half.h"
#include "core/load.h"
#include "core/macros.h"
#include "core/scalar.h"

namespace nf {

constexpr int kMaxGridDims = 4;

enum class GridType : int { kHash, kDense, kTiled };
enum class Interpolation : int { kLinear, kSmoothstep, kNearest };

struct GridConfig {
  int n_dims, n_levels, n_features_per_level, log2_hashmap_size, base_resolution;
  float per_level_scale;
  GridType type;
  Interpolation interpolation;
};

struct GridLevel {
  float scale;                     // position in the level = scale * x + 0.5
  uint32_t resolution;             // vertices per axis
  uint32_t n_entries;              // feature vectors stored
  uint32_t mask;                   // n_entries - 1 where that is a power of two, else 0
  uint32_t factors[kMaxGridDims];  // of the vertex coordinates: primes of the hash, or powers of the resolution
  int64_t offset;                  // entries of all coarser levels
  bool hashed;                     // products with `factors` are combined by xor, else by addition
};

// The one routine that sizes levels, in fp32: ceil(exp2(...) * 16 - 1) sits on integers for many settings, where one
// ulp would shift this and every later level.
inline GridLevel grid_level(const GridConfig& config, int level_idx, int64_t offset) {
  constexpr uint32_t kPrimes[kMaxGridDims] = {1u, 2654435761u, 805459861u, 3674653429u};
  // Largest resolution whose power fits 32 bits.
  constexpr uint32_t kMaxResolution[kMaxGridDims] = {4294967295u, 65535u, 1625u, 255u};
  constexpr uint64_t kSaturated = uint64_t(1) << 62;
  const auto power = [&](uint64_t base) {
    uint64_t p = 1;
    for (int i = 0; i < config.n_dims; ++i) p = p > kSaturated / base ? kSaturated : p * base;
    return p;
  };
  GridLevel level;
  const float growth = ::exp2f(static_cast<float>(level_idx) * ::log2f(config.per_level_scale));
  level.scale = growth * static_cast<float>(config.base_resolution) - 1.0f;
  level.resolution = static_cast<uint32_t>(::ceilf(level.scale)) + 1;
  uint64_t n = nf::min<uint64_t>((power(level.resolution) + 7) / 8 * 8, 0x7fffffffu);
  if (config.type == GridType::kHash) n = nf::min<uint64_t>(n, uint64_t(1) << config.log2_hashmap_size);
  if (config.type == GridType::kTiled) n = nf::min<uint64_t>(n, power(config.base_resolution));
  level.n_entries = static_cast<uint32_t>(n);
  level.mask = (n & (n - 1)) == 0 ? level.n_entries - 1 : 0;
  const bool fits = level.resolution <= kMaxResolution[config.n_dims - 1];
  level.hashed = config.type == GridType::kHash && n < (fits ? power(level.resolution) : 0xffffffffu);
  uint32_t stride = fits ? 1 : 0;  // without a hash, a power beyond 32 bits leaves entry 0 only, as in tiny-cuda-nn
  for (int i = 0; i < kMaxGridDims; ++i, stride *= level.resolution)
    level.factors[i] = level.hashed ? kPrimes[i] : stride;
  level.offset = offset;
  return level;
}

// Level l of sample i is used where l < value(i) * n_levels; one value for all, or one per sample.
struct MaxLevel {
  const float* values = nullptr;  // null: all levels
  bool per_sample = false;
  NF_HD bool hides(int level_idx, int n_levels, int64_t i) const {
    return values && !(static_cast<float>(level_idx) < values[per_sample ? i : 0] * static_cast<float>(n_levels));
  }
};

// ---- one position in one level ----

template <typename T>
NF_HD T grid_floor(T x) {
  return floor_of(x);
}

template <typename T>
NF_HD T smoothstep(T f) {
  return f * f * (T(3) - T(2) * f);
}

NF_HD uint32_t grid_modulo(const GridLevel& level, uint32_t index) {
  if (level.mask != 0) return index & level.mask;
  return index < level.n_entries ? index : index % level.n_entries;
}

// Where x lies in a level: its cell, its fractions, and from them corner indices and weights. Corner k takes the
// upper vertex on axis i when bit i of k is set. With Nearest, corner 0 is the vertex itself and the only one.
template <typename T, int D>
struct GridCell {
  uint32_t products[D];  // lower vertex times factor
  T weights[D][2];       // interpolation weights of the lower and upper vertex
  T slopes[D];           // d weights[.][1] / dx = -d weights[.][0] / dx
  T curvatures[D];       // second derivative, the same way
  int n_corners;         // loops go to kMaxCorners and stop there: a constant, so that they can be unrolled

  static constexpr int kMaxCorners = 1 << D;

  NF_HD GridCell(const GridLevel& level, Interpolation interpolation, const T* x) {
    n_corners = interpolation == Interpolation::kNearest ? 1 : 1 << D;
    const T scale = T(level.scale);
    NF_UNROLL for (int i = 0; i < D; ++i) {
      const T position = fma(scale, x[i], T(0.5));
      const T lower = grid_floor(position);
      const T f = position - lower;
      products[i] = static_cast<uint32_t>(static_cast<int32_t>(lower)) * level.factors[i];
      T upper_weight = f, slope = scale, curvature = 0;
      if (interpolation == Interpolation::kSmoothstep) {
        upper_weight = smoothstep(f);
        slope = scale * (T(6) * f * (T(1) - f));
        curvature = scale * scale * (T(6) - T(12) * f);
      } else if (interpolation == Interpolation::kNearest) {
        upper_weight = f - f;  // 0, or NaN where x is not finite
        slope = 0;
      }
      weights[i][0] = T(1) - upper_weight;
      weights[i][1] = upper_weight;
      slopes[i] = slope;
      curvatures[i] = curvature;
    }
  }

  NF_HD uint32_t index(const GridLevel& level, int corner) const {
    uint32_t sum = 0, hash = 0;
    NF_UNROLL for (int i = 0; i < D; ++i) {
      const uint32_t product = products[i] + (corner >> i & 1 ? level.factors[i] : 0u);
      sum += product;
      hash ^= product;
    }
    return grid_modulo(level, level.hashed ? hash : sum);
  }

  // Weight along one axis; a choice of two registers, where an index would need memory.
  NF_HD T side(int corner, int i) const { return corner >> i & 1 ? weights[i][1] : weights[i][0]; }

  NF_HD T weight(int corner) const {
    T w = 1;
    NF_UNROLL for (int i = 0; i < D; ++i) w *= side(corner, i);
    return w;
  }

  // d weight / dx_a, and d^2 weight / dx_a dx_b
  NF_HD T weight_derivative(int corner, int a) const {
    T w = corner >> a & 1 ? slopes[a] : -slopes[a];
    NF_UNROLL for (int i = 0; i < D; ++i) if (i != a) w *= side(corner, i);
    return w;
  }
  NF_HD T weight_derivative(int corner, int a, int b) const {
    T w = 1;
    NF_UNROLL for (int i = 0; i < D; ++i) {
      const T sign = corner >> i & 1 ? T(1) : T(-1);
      w *= i == a && i == b ? sign * curvatures[i] : i == a || i == b ? sign * slopes[i] : side(corner, i);
    }
    return w;
  }
};

// y[f] = sum over corners of weight * feature. `table` points at the entries of the level.
template <typename T, int D, int F, typename P>
NF_HD void grid_forward(const GridLevel& level, Interpolation interpolation, const P* table, const T* x, T* y) {
  const GridCell<T, D> cell(level, interpolation, x);
  NF_UNROLL for (int f = 0; f < F; ++f) y[f] = 0;
  NF_UNROLL for (int k = 0; k < cell.kMaxCorners; ++k) {
    if (k >= cell.n_corners) break;
    P entry[F];
    load_values<F>(table + int64_t(cell.index(level, k)) * F, entry);
    const T w = cell.weight(k);
    NF_UNROLL for (int f = 0; f < F; ++f) y[f] = madd(w, T(to_float(entry[f])), y[f]);
  }
}

// dL/dtable[corner][f] += weight * dL/dy[f]
template <typename T, int D, int F>
NF_HD void grid_backward_table(const GridLevel& level, Interpolation interpolation, const T* x, const T* dL_dy,
                               T* dL_dtable) {
  const GridCell<T, D> cell(level, interpolation, x);
  NF_UNROLL for (int k = 0; k < cell.kMaxCorners; ++k) {
    if (k >= cell.n_corners) break;
    const T w = cell.weight(k);
    T* entry = dL_dtable + int64_t(cell.index(level, k)) * F;
    NF_UNROLL for (int f = 0; f < F; ++f) entry[f] += w * dL_dy[f];
  }
}

// dL/dx[a] += sum over corners of (d weight / dx_a) * (dL/dy . feature)
template <typename T, int D, int F, typename P>
NF_HD void grid_backward_input(const GridLevel& level, Interpolation interpolation, const P* table, const T* x,
                               const T* dL_dy, T* dL_dx) {
  if (interpolation == Interpolation::kNearest) return;
  const GridCell<T, D> cell(level, interpolation, x);
  NF_UNROLL for (int k = 0; k < cell.kMaxCorners; ++k) {
    P entry[F];
    load_values<F>(table + int64_t(cell.index(level, k)) * F, entry);
    T projected = 0;
    NF_UNROLL for (int f = 0; f < F; ++f) projected += dL_dy[f] * T(to_float(entry[f]));
    NF_UNROLL for (int a = 0; a < D; ++a) dL_dx[a] += cell.weight_derivative(k, a) * projected;
  }
}

// How gradients reach a table that nobody else writes: entry[f] += values[f].
struct AddPlainly {
  template <typename T, int F>
  NF_HD void operator()(T* entry, const T (&values)[F]) const {
    for (int f = 0; f < F; ++f) entry[f] += values[f];
  }
};

// Gradients of H = v . dL/dx, the scalar that the backward pass of the input gradient differentiates:
//   dH/dtable[corner][f] += dL/dy[f] * w',   dH/d(dL/dy)[f] = sum feature[f] * w',
//   dH/dx[a] += sum (dL/dy . feature) * dw'/dx_a,   with w' = sum_b v_b d weight / dx_b.
// dH_dtable, through add(entry, values), and the other two outputs may each be null.
template <typename T, int D, int F, typename P, typename Add = AddPlainly>
NF_HD void grid_backward_backward_input(const GridLevel& level, Interpolation interpolation, const P* table, const T* x,
                                        const T* dL_dy, const T* v, T* dH_dtable, T* dH_ddL_dy, T* dH_dx,
                                        const Add& add = Add()) {
  if (dH_ddL_dy) NF_UNROLL
  for (int f = 0; f < F; ++f) dH_ddL_dy[f] = 0;
  if (interpolation == Interpolation::kNearest) return;
  const GridCell<T, D> cell(level, interpolation, x);
  NF_ROLL for (int k = 0; k < cell.kMaxCorners; ++k) {
    const int64_t first = int64_t(cell.index(level, k)) * F;
    T directional = 0;
    NF_UNROLL for (int a = 0; a < D; ++a) directional += v[a] * cell.weight_derivative(k, a);
    if (dH_dtable) {
      T values[F];
      NF_UNROLL for (int f = 0; f < F; ++f) values[f] = dL_dy[f] * directional;
      add(dH_dtable + first, values);
    }
    if (!dH_ddL_dy && !dH_dx) continue;
    P entry[F];
    load_values<F>(table + first, entry);
    T projected = 0;
    NF_UNROLL for (int f = 0; f < F; ++f) {
      const T feature = T(to_float(entry[f]));
      projected += dL_dy[f] * feature;
      if (dH_ddL_dy) dH_ddL_dy[f] += feature * directional;
    }
    if (!dH_dx) continue;
    NF_UNROLL for (int a = 0; a < D; ++a) {
      T curvature = 0;
      NF_UNROLL for (int b = 0; b < D; ++b) curvature += v[b] * cell.weight_derivative(k, a, b);
      dH_dx[a] += projected * curvature;
    }
  }
}

}  // namespace nf
