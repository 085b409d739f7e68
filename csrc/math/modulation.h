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

// The 2^n_dims nodes around a coordinate [n_dims]. Node k takes the upper one on axis a when bit a of k is set.
template <typename T>
struct ModulationCell {
  int64_t nodes[2][kMaxModulationDims];  // lower and upper, times the stride of the axis
  T weights[2][kMaxModulationDims];
  T slopes[kMaxModulationDims];  // d weights[1] / dx = -d weights[0] / dx
  int n_dims;

  NF_HD ModulationCell(const ModulationGrid& grid, const T* x) : n_dims(grid.n_dims) {
    int64_t stride = 1;
    for (int a = n_dims - 1; a >= 0; --a) {
      const int r = grid.resolution[a];
      T position, slope;
      if (grid.wraps[a]) {
        position = (x[a] - ::floor(x[a])) * T(r);  // r itself when x is just below an integer
        slope = T(r);
      } else {
        const bool inside = x[a] > T(0) && x[a] < T(1);
        position = (x[a] <= T(0) ? T(0) : x[a] >= T(1) ? T(1) : x[a]) * T(r - 1);
        slope = inside ? T(r - 1) : T(0);
      }
      const int last = grid.wraps[a] ? r - 1 : max(r - 2, 0);
      const int lower = position == position ? min(static_cast<int>(position), last) : 0;
      const int upper = lower + 1 < r ? lower + 1 : grid.wraps[a] ? 0 : lower;
      const T f = position - T(lower);
      nodes[0][a] = lower * stride;
      nodes[1][a] = upper * stride;
      weights[0][a] = T(1) - f;
      weights[1][a] = f;
      slopes[a] = slope;
      stride *= r;
    }
  }

  NF_HD int n_corners() const { return 1 << n_dims; }
  NF_HD int64_t node(int corner) const {
    int64_t index = 0;
    for (int a = 0; a < n_dims; ++a) index += nodes[corner >> a & 1][a];
    return index;
  }
  NF_HD T weight(int corner) const {
    T w = 1;
    for (int a = 0; a < n_dims; ++a) w *= weights[corner >> a & 1][a];
    return w;
  }
  // d weight / dx_axis
  NF_HD T weight_derivative(int corner, int axis) const {
    T w = corner >> axis & 1 ? slopes[axis] : -slopes[axis];
    for (int a = 0; a < n_dims; ++a)
      if (a != axis) w *= weights[corner >> a & 1][a];
    return w;
  }
};

// y[c] = sum over corners of weight * values[node][c]
template <typename T>
NF_HD void modulation_forward(const ModulationGrid& grid, const T* values, int n_channels, const T* x, T* y) {
  const ModulationCell<T> cell(grid, x);
  for (int c = 0; c < n_channels; ++c) y[c] = 0;
  for (int k = 0; k < cell.n_corners(); ++k) {
    const T* node = values + cell.node(k) * n_channels;
    const T w = cell.weight(k);
    for (int c = 0; c < n_channels; ++c) y[c] = madd(w, node[c], y[c]);
  }
}

// dL/dvalues[node][c] += weight * dL/dy[c]; one caller at a time.
template <typename T>
NF_HD void modulation_backward_values(const ModulationGrid& grid, int n_channels, const T* x, const T* dL_dy,
                                      T* dL_dvalues) {
  const ModulationCell<T> cell(grid, x);
  for (int k = 0; k < cell.n_corners(); ++k) {
    T* node = dL_dvalues + cell.node(k) * n_channels;
    const T w = cell.weight(k);
    for (int c = 0; c < n_channels; ++c) node[c] = madd(w, dL_dy[c], node[c]);
  }
}

// dL/dx[a] = sum over corners of (d weight / dx_a) (dL/dy . values[node])
template <typename T>
NF_HD void modulation_backward_input(const ModulationGrid& grid, const T* values, int n_channels, const T* x,
                                     const T* dL_dy, T* dL_dx) {
  const ModulationCell<T> cell(grid, x);
  for (int a = 0; a < cell.n_dims; ++a) dL_dx[a] = 0;
  for (int k = 0; k < cell.n_corners(); ++k) {
    const T* node = values + cell.node(k) * n_channels;
    T projected = 0;
    for (int c = 0; c < n_channels; ++c) projected = madd(dL_dy[c], node[c], projected);
    for (int a = 0; a < cell.n_dims; ++a) dL_dx[a] = madd(cell.weight_derivative(k, a), projected, dL_dx[a]);
  }
}

// The scale that normalises a row of features whose squared distances from their mean sum to `squares`.
template <typename V>
NF_HD V inverse_deviation(V squares, V n_features) {
  return V(1) / ::sqrt(squares / n_features + V(kNormalizationEpsilon));
}

// dL/dz of a normalised and modulated feature from dv = dL/d(gamma zhat + beta), the row's sums
// dgamma = sum dv zhat and dbeta = sum dv (which are the gradients of gamma and beta), and factor = gamma / deviation:
//   dz = factor (dv - mean(dv) - zhat mean(dv zhat))
template <typename V>
NF_HD V normalized_gradient(V dv, V zhat, V factor, V mean_dv, V mean_dv_zhat) {
  return factor * (dv - mean_dv - zhat * mean_dv_zhat);
}

}  // namespace nf
