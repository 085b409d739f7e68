// SPDX-License-Identifier: Apache-2.0
// Coordinate-aware modulation (Lee et al. 2024, eq. 2). Between a hidden layer's matrix and its activation,
//   h = a(gamma zhat + beta),   zhat = (z - mean) / sqrt(variance + 1e-5) over the features of the sample, or z
// with gamma and beta one number per sample and layer, read from a coarse grid at the sample's coordinate by
// multilinear interpolation. Along an axis of r nodes, node i lies at i / (r - 1) and coordinates are clamped to
// [0, 1]; an axis that wraps has node i at i / r and period 1. NaN coordinates give NaN.
// V is float, double or (on the CPU) a vector of either.
#pragma once

#include <cmath>
#include <cstdint>
#include <type_traits>

#include "core/macros.h"
#include "core/scalar.h"

namespace nf {

constexpr int kMaxModulationDims = 4;
constexpr double kNormalizationEpsilon = 1e-5;

// Values of one node are contiguous; the last axis is the fastest.
struct ModulationGrid {
  int n_dims;
  int resolution[kMaxModulationDims];
  bool wraps[kMaxModulationDims];

  NF_HD int64_t n_nodes() const {
    int64_t n = 1;
    for (int a = 0; a < n_dims; ++a) n *= resolution[a];
    return n;
  }
};

// Calls run(std::integral_constant<int, n_dims>()): the number of axes is a constant of the code, so that what belongs
// to them stays in registers.
template <typename Run>
void with_modulation_dims(int n_dims, const Run& run) {
  static_assert(kMaxModulationDims == 4);
  switch (n_dims) {
    case 1:
      return run(std::integral_constant<int, 1>());
    case 2:
      return run(std::integral_constant<int, 2>());
    case 3:
      return run(std::integral_constant<int, 3>());
    default:
      return run(std::integral_constant<int, 4>());
  }
}

// The 2^D nodes around a coordinate [D]. Node k takes the upper one on axis a when bit a of k is set.
template <typename T, int D>
struct ModulationCell {
  int64_t lower[D], upper[D];  // node, times the stride of the axis
  T fractions[D];              // weight of the upper node
  T slopes[D];                 // d fractions / dx

  NF_HD ModulationCell(const ModulationGrid& grid, const T* x) {
    int64_t stride = 1;
    NF_UNROLL for (int a = D - 1; a >= 0; --a) {
      const int r = grid.resolution[a];
      T position, slope;
      if (grid.wraps[a]) {
        position = (x[a] - floor_of(x[a])) * T(r);  // r itself when x is just below an integer
        slope = T(r);
      } else {
        const bool inside = x[a] > T(0) && x[a] < T(1);
        position = (x[a] <= T(0) ? T(0) : x[a] >= T(1) ? T(1) : x[a]) * T(r - 1);
        slope = inside ? T(r - 1) : T(0);
      }
      const int last = grid.wraps[a] ? r - 1 : max(r - 2, 0);
      const int node = position == position ? min(static_cast<int>(position), last) : 0;
      const int next = node + 1 < r ? node + 1 : grid.wraps[a] ? 0 : node;
      lower[a] = node * stride;
      upper[a] = next * stride;
      fractions[a] = position - T(node);
      slopes[a] = slope;
      stride *= r;
    }
  }

  static constexpr int kCorners = 1 << D;
  NF_HD int64_t node(int corner) const {
    int64_t index = 0;
    NF_UNROLL for (int a = 0; a < D; ++a) index += corner >> a & 1 ? upper[a] : lower[a];
    return index;
  }
  NF_HD T weight(int corner) const {
    T w = 1;
    NF_UNROLL for (int a = 0; a < D; ++a) w *= axis_weight(corner, a);
    return w;
  }
  // d weight / dx_axis
  NF_HD T weight_derivative(int corner, int axis) const {
    T w = corner >> axis & 1 ? slopes[axis] : -slopes[axis];
    NF_UNROLL for (int a = 0; a < D; ++a) if (a != axis) w *= axis_weight(corner, a);
    return w;
  }

 private:
  NF_HD T axis_weight(int corner, int a) const { return corner >> a & 1 ? fractions[a] : T(1) - fractions[a]; }
};

// Loop bodies over samples: x [n, D], values [n_nodes, n_channels].

// y[i][c] = sum over corners of weight * values[node][c]
template <typename T, int D>
struct ModulationForward {
  ModulationGrid grid;
  const T *x, *values;
  T* y;  // [n, n_channels]
  int n_channels;
  NF_HD void operator()(int64_t i) const {
    const ModulationCell<T, D> cell(grid, x + i * D);
    T* out = y + i * n_channels;
    for (int c = 0; c < n_channels; ++c) out[c] = 0;
    NF_ROLL for (int k = 0; k < cell.kCorners; ++k) {
      const T* node = values + cell.node(k) * n_channels;
      const T w = cell.weight(k);
      for (int c = 0; c < n_channels; ++c) out[c] = madd(w, node[c], out[c]);
    }
  }
};

// Calls add(dL/dvalues[node] + c, weight, dL/dy[c]) for the corners and channels of a sample: what is to be added is
// the product of the last two.
template <typename T, int D, typename Add>
struct ModulationBackwardValues {
  ModulationGrid grid;
  const T *x, *dL_dy;  // dL_dy [n, n_channels]
  T* dL_dvalues;
  int n_channels;
  Add add;
  NF_HD void operator()(int64_t i) const {
    const ModulationCell<T, D> cell(grid, x + i * D);
    NF_ROLL for (int k = 0; k < cell.kCorners; ++k) {
      T* node = dL_dvalues + cell.node(k) * n_channels;
      const T w = cell.weight(k);
      for (int c = 0; c < n_channels; ++c) add(node + c, w, dL_dy[i * n_channels + c]);
    }
  }
};

// dL/dx[i][a] = sum over corners of (d weight / dx_a) (dL/dy . values[node])
template <typename T, int D>
struct ModulationBackwardInput {
  ModulationGrid grid;
  const T *x, *values, *dL_dy;  // dL_dy [n, n_channels]
  T* dL_dx;                     // [n, D]
  int n_channels;
  NF_HD void operator()(int64_t i) const {
    const ModulationCell<T, D> cell(grid, x + i * D);
    const T* grad = dL_dy + i * n_channels;
    T sums[D] = {};
    NF_ROLL for (int k = 0; k < cell.kCorners; ++k) {
      const T* node = values + cell.node(k) * n_channels;
      T projected = 0;
      for (int c = 0; c < n_channels; ++c) projected = madd(grad[c], node[c], projected);
      NF_UNROLL for (int a = 0; a < D; ++a) sums[a] = madd(cell.weight_derivative(k, a), projected, sums[a]);
    }
    NF_UNROLL for (int a = 0; a < D; ++a) dL_dx[i * D + a] = sums[a];
  }
};

// The scale that normalises a row of features whose squared distances from their mean sum to `squares`.
template <typename V>
NF_HD V inverse_deviation(V squares, V n_features) {
  return V(1) / root_of(squares / n_features + V(kNormalizationEpsilon));
}

// dL/dz of a normalised and modulated feature from dv = dL/d(gamma zhat + beta), the row's sums
// dgamma = sum dv zhat and dbeta = sum dv (which are the gradients of gamma and beta), and factor = gamma / deviation:
//   dz = factor (dv - mean(dv) - zhat mean(dv zhat))
template <typename V>
NF_HD V normalized_gradient(V dv, V zhat, V factor, V mean_dv, V mean_dv_zhat) {
  return factor * (dv - mean_dv - zhat * mean_dv_zhat);
}

}  // namespace nf
