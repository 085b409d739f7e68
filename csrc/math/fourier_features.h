// SPDX-License-Identifier: Apache-2.0
// Fourier features (Tancik et al. 2020): with frequencies b_k in cycles per unit of x,
//   t_k = b_k . x,   y[2k] = g_k sin(2 pi t_k),   y[2k + 1] = g_k cos(2 pi t_k)
// where g_k is the gate of the block of frequencies that k belongs to (1 without gates; see gate_of). t_k is reduced to
// a fraction of a turn before it meets pi, so what a large frequency loses is the rounding of t_k itself: an error of
// about 2 pi n_dims 2^-24 max |b_kj x_j| in float, and 2^-22 besides. V is float, double or (on the CPU) vf.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/macros.h"
#include "core/scalar.h"
#include "math/elementary.h"

namespace nf {

namespace detail {
NF_HD float numbers(float x, float) { return x; }
NF_HD double numbers(double x, double) { return x; }
#ifndef __CUDACC__
NF_HD vf numbers(float x, vf) { return splat(x); }
#endif
}  // namespace detail

constexpr double kTwoPi = 6.283185307179586476925;

// The gate of frequency k: blocks of consecutive frequencies, as equal as their number allows.
NF_HD int gate_of(int k, int n_frequencies, int n_gates) {
  return static_cast<int>(int64_t(k) * n_gates / n_frequencies);
}

// sin and cos of 2 pi t. A device has both of a multiple of pi, without a table for large arguments.
#ifdef __CUDACC__
NF_HD void sine_cosine_pi(float x, float* s, float* c) { ::sincospif(x, s, c); }
NF_HD void sine_cosine_pi(double x, double* s, double* c) { ::sincospi(x, s, c); }
template <typename V, typename T>
NF_HD void sine_cosine_turns(V t, T, V* s, V* c) {
  sine_cosine_pi(V(2) * (t - floor_of(t + V(0.5))), s, c);
}
#else
template <typename V, typename T>
NF_HD void sine_cosine_turns(V t, T two_pi, V* s, V* c) {
  const V half = detail::numbers(T(0.5), V{});
  sine_cosine((t - floor_of(t + half)) * detail::numbers(two_pi, V{}), s, c);
}
#endif

// One sample and one frequency (or a vector of them, b_j being components j of consecutive frequencies).
template <typename T, typename V, typename Component>
NF_HD V fourier_turns(const T* x, int n_dims, const Component& component) {
  V t = component(0) * detail::numbers(x[0], V{});
  for (int j = 1; j < n_dims; ++j) t = madd(component(j), detail::numbers(x[j], V{}), t);
  return t;
}

// What dL/dx_j gets from frequency k, over b_kj: 2 pi g (cos dL/dy[2k] - sin dL/dy[2k + 1]).
template <typename V, typename T>
NF_HD V fourier_slope(V t, V gate, V grad_sine, V grad_cosine) {
  V s, c;
  sine_cosine_turns(t, T(kTwoPi), &s, &c);
  return gate * detail::numbers(T(kTwoPi), V{}) * (c * grad_sine - s * grad_cosine);
}

// Loop bodies over samples, of which a device takes the parts. frequencies [n_dims, n_frequencies], gates [n, n_gates]
// or null.
template <typename T>
struct FourierForward {
  const T *x, *frequencies, *gates;
  T* y;  // [n, 2 * n_frequencies]
  int n_dims, n_frequencies, n_gates;
  NF_HD void operator()(int64_t i) const {
    for (int k = 0; k < n_frequencies; ++k) write(i, k);
  }
  NF_HD void write(int64_t i, int k) const {
    const T t = fourier_turns<T, T>(x + i * n_dims, n_dims, [&](int j) { return frequencies[j * n_frequencies + k]; });
    T s, c;
    sine_cosine_turns(t, T(kTwoPi), &s, &c);
    const T gate = gates ? gates[i * n_gates + gate_of(k, n_frequencies, n_gates)] : T(1);
    T* out = y + (i * n_frequencies + k) * 2;
    out[0] = gate * s;
    out[1] = gate * c;
  }
};

template <typename T>
struct FourierBackward {
  const T *x, *frequencies, *gates, *dL_dy;
  T* dL_dx;  // [n, n_dims]
  int n_dims, n_frequencies, n_gates;
  NF_HD void operator()(int64_t i) const {
    T* out = dL_dx + i * n_dims;
    for (int j = 0; j < n_dims; ++j) out[j] = 0;
    for (int k = 0; k < n_frequencies; ++k) {
      const T s = slope(i, k);
      for (int j = 0; j < n_dims; ++j) out[j] = madd(s, frequencies[j * n_frequencies + k], out[j]);
    }
  }
  // What dL/dx gets from frequency k, over b_k.
  NF_HD T slope(int64_t i, int k) const {
    const T t = fourier_turns<T, T>(x + i * n_dims, n_dims, [&](int j) { return frequencies[j * n_frequencies + k]; });
    const T gate = gates ? gates[i * n_gates + gate_of(k, n_frequencies, n_gates)] : T(1);
    const T* grad = dL_dy + (i * n_frequencies + k) * 2;
    return fourier_slope<T, T>(t, gate, grad[0], grad[1]);
  }
};

}  // namespace nf
