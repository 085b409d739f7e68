// SPDX-License-Identifier: Apache-2.0
// Scale and shift of the rows of a tile between a product and its activation, with or without normalisation over the
// features (math/modulation.h). Rows are handled in blocks of as many as a vector has lanes, so that one shuffle tree
// turns the block's partial sums into the sums of all its rows.
#pragma once

#include <algorithm>
#include <cstdint>

#include "cpu/mlp_tile.h"
#include "math/modulation.h"

namespace nf::cpu {

// gamma and beta of row i are values[i * stride] and values[i * stride + 1].
template <typename T>
struct RowModulation {
  T* values;
  int64_t stride;
  T& gamma(int64_t row) const { return values[row * stride]; }
  T& beta(int64_t row) const { return values[row * stride + 1]; }
};

namespace detail {

NF_HD vf every_lane(float x, vf) { return splat(x); }
NF_HD Vector<double> every_lane(double x, Vector<double>) { return x - Vector<double>{}; }

// sums[r] = sum of term(row r of the block, column of a vector) over the row, r < rows <= kWidth<T>.
template <typename T, typename Term>
void row_sums(int64_t rows, int64_t width, T* sums, const Term& term) {
  constexpr int w = kWidth<T>;
  Vector<T> acc[w] = {};
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t k = 0; k < width; k += w) acc[r] += term(r, k);
  store_vector(sums, sum_lanes<1, w>(acc));
}

}  // namespace detail

// z [rows, width] becomes gamma zhat + beta. `zhat` [rows, width] may be null. With `normalizes`, `inverse` [rows]
// receives 1 / deviation of each row; it may be null.
template <typename T>
void modulate_rows(T* z, int64_t rows, int64_t width, RowModulation<const T> modulation, bool normalizes, T* zhat,
                   T* inverse) {
  constexpr int w = kWidth<T>;
  using V = Vector<T>;
  const auto lanes = [](T x) { return detail::every_lane(x, V{}); };
  for (int64_t first = 0; first < rows; first += w) {
    const int64_t n = std::min<int64_t>(w, rows - first);
    T* block = z + first * width;
    T mean[w] = {}, scale[w];
    std::fill_n(scale, w, T(1));
    if (normalizes) {
      T sums[w];
      detail::row_sums<T>(n, width, sums,
                          [&](int64_t r, int64_t k) { return detail::load_vector(block + r * width + k); });
      for (int r = 0; r < w; ++r) mean[r] = sums[r] / static_cast<T>(width);
      detail::row_sums<T>(n, width, sums, [&](int64_t r, int64_t k) {
        const V d = detail::load_vector(block + r * width + k) - lanes(mean[r]);
        return d * d;
      });
      for (int r = 0; r < w; ++r) scale[r] = inverse_deviation(sums[r], static_cast<T>(width));
      if (inverse) std::copy_n(scale, n, inverse + first);
    }
    for (int64_t r = 0; r < n; ++r) {
      const V gamma = lanes(modulation.gamma(first + r)), beta = lanes(modulation.beta(first + r));
      const V m = lanes(mean[r]), s = lanes(scale[r]);
      T* row = block + r * width;
      for (int64_t k = 0; k < width; k += w) {
        const V normal = (detail::load_vector(row + k) - m) * s;
        if (zhat) detail::store_vector(zhat + (first + r) * width + k, normal);
        detail::store_vector(row + k, detail::multiply_add(gamma, normal, beta));
      }
    }
  }
}

// out [rows, width] = gamma zhat + beta
template <typename T>
void modulate_stored_rows(const T* zhat, int64_t rows, int64_t width, RowModulation<const T> modulation, T* out) {
  constexpr int w = kWidth<T>;
  for (int64_t r = 0; r < rows; ++r) {
    const Vector<T> gamma = detail::every_lane(modulation.gamma(r), Vector<T>{});
    const Vector<T> beta = detail::every_lane(modulation.beta(r), Vector<T>{});
    for (int64_t k = r * width; k < (r + 1) * width; k += w)
      detail::store_vector(out + k, detail::multiply_add(gamma, detail::load_vector(zhat + k), beta));
  }
}

// dv [rows, width], the gradient of gamma zhat + beta, becomes that of z; the gradients of gamma and beta are added to
// `sums` if that has values. `inverse` [rows] is null where rows were not normalised.
template <typename T>
void modulation_gradient_rows(T* dv, int64_t rows, int64_t width, RowModulation<const T> modulation, const T* zhat,
                              const T* inverse, RowModulation<T> sums) {
  constexpr int w = kWidth<T>;
  using V = Vector<T>;
  const auto lanes = [](T x) { return detail::every_lane(x, V{}); };
  for (int64_t first = 0; first < rows; first += w) {
    const int64_t n = std::min<int64_t>(w, rows - first);
    T* block = dv + first * width;
    const T* normal = zhat + first * width;
    T d_gamma[w], d_beta[w];
    detail::row_sums<T>(n, width, d_beta,
                        [&](int64_t r, int64_t k) { return detail::load_vector(block + r * width + k); });
    detail::row_sums<T>(n, width, d_gamma, [&](int64_t r, int64_t k) {
      return detail::load_vector(block + r * width + k) * detail::load_vector(normal + r * width + k);
    });
    for (int64_t r = 0; r < n; ++r) {
      if (sums.values) {
        sums.gamma(first + r) += d_gamma[r];
        sums.beta(first + r) += d_beta[r];
      }
      T* row = block + r * width;
      const T gamma = modulation.gamma(first + r);
      if (!inverse) {
        for (int64_t k = 0; k < width; k += w)
          detail::store_vector(row + k, lanes(gamma) * detail::load_vector(row + k));
        continue;
      }
      const V factor = lanes(gamma * inverse[first + r]);
      const V mean_dv = lanes(d_beta[r] / static_cast<T>(width)),
              mean_dv_zhat = lanes(d_gamma[r] / static_cast<T>(width));
      for (int64_t k = 0; k < width; k += w)
        detail::store_vector(
            row + k, normalized_gradient(detail::load_vector(row + k), detail::load_vector(normal + r * width + k),
                                         factor, mean_dv, mean_dv_zhat));
    }
  }
}

}  // namespace nf::cpu
