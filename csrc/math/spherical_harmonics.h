// SPDX-License-Identifier: Apache-2.0
// Real spherical harmonics of degrees 1 ... 8, values and gradient, signs and order as in tiny-cuda-nn:
//   Y[l^2 + l + m] = q_lm(z) Re (x + iy)^m,  Y[l^2 + l - m] = q_lm(z) Im (x + iy)^m,  l < degree, 0 <= m <= l,
// where q_lm is the m-th derivative of the Legendre polynomial P_l times
//   (-1)^m sqrt((2 - [m = 0]) (2 l + 1) / (4 pi) (l - m)! / (l + m)!).
// With that normalisation the three-term recurrence of P_l^m reads q_lm = a_lm z q_(l-1)m - b_lm q_(l-2)m, which is
// stable for |z| <= 1; its coefficients are compile-time constants and the walk over (l, m) is unrolled. Away from the
// unit sphere the functions are these polynomials in x, y, z (z is never replaced by x and y).
#pragma once

#include <cstdint>
#include <type_traits>

#include "core/macros.h"
#ifndef __CUDACC__
#include "core/simd.h"
#endif

namespace nf {

constexpr int kMaxSphericalHarmonicsDegree = 8;

namespace sh {

template <typename V>
struct Scalar {
  using type = V;
};
#ifndef __CUDACC__
template <>
struct Scalar<vf> {
  using type = float;
};
#endif
template <typename V>
using ScalarOf = typename Scalar<V>::type;

constexpr NF_HD double root(double x) {
  double r = x > 1 ? x : 1;
  for (int i = 0; i < 64; ++i) r = 0.5 * (r + x / r);
  return r;
}

// q_mm: (2m - 1)!!^2 / (2m)! is the product of (2k - 1) / 2k
constexpr NF_HD double diagonal(int m) {
  double square = (m == 0 ? 1 : 2) * (2 * m + 1) / (4 * 3.14159265358979323846);
  for (int k = 1; k <= m; ++k) square *= (2 * k - 1) / (2.0 * k);
  return m % 2 == 0 ? root(square) : -root(square);
}
constexpr NF_HD double recurrence_a(int l, int m) { return root((4.0 * l * l - 1) / (l * l - m * m)); }
constexpr NF_HD double recurrence_b(int l, int m) {  // l >= m + 2
  return root(((l - 1.0) * (l - 1) - m * m) * (2 * l + 1) / ((2.0 * l - 3) * (l * l - m * m)));
}

// One order m: q_lm for l = kL, kL + 1, ... (c, s) is (x + iy)^m.
template <int kDegree, int kM, int kL, typename V, typename Out>
NF_HD void column(V z, V c, V s, V q, V q_below, Out& out) {
  using S = ScalarOf<V>;
  out(kL * kL + kL + kM, q * c);
  if constexpr (kM > 0) out(kL * kL + kL - kM, q * s);
  if constexpr (kL + 1 < kDegree) {
    constexpr S a = static_cast<S>(recurrence_a(kL + 1, kM));
    V above = a * z * q;
    if constexpr (kL > kM) {
      constexpr S b = static_cast<S>(recurrence_b(kL + 1, kM));
      above = above - b * q_below;
    }
    column<kDegree, kM, kL + 1>(z, c, s, above, q, out);
  }
}

template <int kDegree, int kM, typename V, typename Out>
NF_HD void columns(V x, V y, V z, V c, V s, Out& out) {
  constexpr auto q = static_cast<ScalarOf<V>>(diagonal(kM));
  column<kDegree, kM, kM>(z, c, s, V{} + q, V{}, out);
  if constexpr (kM + 1 < kDegree) {
    if constexpr (kM == 0)
      columns<kDegree, 1>(x, y, z, x, y, out);
    else
      columns<kDegree, kM + 1>(x, y, z, c * x - s * y, c * y + s * x, out);
  }
}

// As column, with the derivative dq = dq_lm/dz carried along; (c_below, s_below) is (x + iy)^(m - 1).
template <int kDegree, int kM, int kL, typename V, typename In>
NF_HD void column_backward(V z, V c, V s, V c_below, V s_below, V q, V q_below, V dq, V dq_below, const In& in,
                           V* dL_dx, V* dL_dy, V* dL_dz) {
  using S = ScalarOf<V>;
  const V even = in(kL * kL + kL + kM);
  if constexpr (kM == 0) {
    if constexpr (kL > 0) *dL_dz = *dL_dz + dq * even;
  } else {
    const V odd = in(kL * kL + kL - kM);
    const V mq = S(kM) * q;
    *dL_dx = *dL_dx + mq * (even * c_below + odd * s_below);
    *dL_dy = *dL_dy + mq * (odd * c_below - even * s_below);
    if constexpr (kL > kM) *dL_dz = *dL_dz + dq * (even * c + odd * s);
  }
  if constexpr (kL + 1 < kDegree) {
    constexpr S a = static_cast<S>(recurrence_a(kL + 1, kM));
    V above = a * z * q;
    V d_above = a * (q + z * dq);
    if constexpr (kL > kM) {
      constexpr S b = static_cast<S>(recurrence_b(kL + 1, kM));
      above = above - b * q_below;
      d_above = d_above - b * dq_below;
    }
    column_backward<kDegree, kM, kL + 1>(z, c, s, c_below, s_below, above, q, d_above, dq, in, dL_dx, dL_dy, dL_dz);
  }
}

template <int kDegree, int kM, typename V, typename In>
NF_HD void columns_backward(V x, V y, V z, V c, V s, V c_below, V s_below, const In& in, V* dL_dx, V* dL_dy, V* dL_dz) {
  constexpr auto q = static_cast<ScalarOf<V>>(diagonal(kM));
  column_backward<kDegree, kM, kM>(z, c, s, c_below, s_below, V{} + q, V{}, V{}, V{}, in, dL_dx, dL_dy, dL_dz);
  if constexpr (kM + 1 < kDegree) {
    if constexpr (kM == 0)
      columns_backward<kDegree, 1>(x, y, z, x, y, c, s, in, dL_dx, dL_dy, dL_dz);
    else
      columns_backward<kDegree, kM + 1>(x, y, z, c * x - s * y, c * y + s * x, c, s, in, dL_dx, dL_dy, dL_dz);
  }
}

}  // namespace sh

// Calls out(k, Y_k) for every k < kDegree^2, in no particular order. V is float, double or vf.
template <int kDegree, typename V, typename Out>
NF_HD void spherical_harmonics(V x, V y, V z, Out& out) {
  static_assert(1 <= kDegree && kDegree <= kMaxSphericalHarmonicsDegree);
  sh::columns<kDegree, 0>(x, y, z, V{} + sh::ScalarOf<V>(1), V{}, out);
}

// Adds sum_k in(k) dY_k/d(x, y, z) to the three gradients; in(k) is dL/dY_k.
template <int kDegree, typename V, typename In>
NF_HD void spherical_harmonics_backward(V x, V y, V z, const In& in, V* dL_dx, V* dL_dy, V* dL_dz) {
  static_assert(1 <= kDegree && kDegree <= kMaxSphericalHarmonicsDegree);
  const V one = V{} + sh::ScalarOf<V>(1);
  sh::columns_backward<kDegree, 0>(x, y, z, one, V{}, V{}, V{}, in, dL_dx, dL_dy, dL_dz);
}

template <typename T>
struct SphericalHarmonicsRow {  // one row of values or gradients, as `out` and `in` above
  T* row;
  NF_HD void operator()(int k, T value) { row[k] = value; }
  NF_HD T operator()(int k) const { return row[k]; }
};

template <int kDegree, typename T>
struct SphericalHarmonicsForward {
  const T* directions;  // [n, 3]
  T* y;                 // [n, kDegree^2]
  NF_HD void operator()(int64_t i) const {
    const T* d = directions + 3 * i;
    SphericalHarmonicsRow<T> row{y + i * kDegree * kDegree};
    spherical_harmonics<kDegree>(d[0], d[1], d[2], row);
  }
};

template <int kDegree, typename T>
struct SphericalHarmonicsBackward {
  const T* directions;  // [n, 3]
  const T* dL_dy;       // [n, kDegree^2]
  T* dL_ddirections;    // [n, 3]
  NF_HD void operator()(int64_t i) const {
    const T* d = directions + 3 * i;
    const SphericalHarmonicsRow<const T> row{dL_dy + i * kDegree * kDegree};
    T x = 0, y = 0, z = 0;
    spherical_harmonics_backward<kDegree>(d[0], d[1], d[2], row, &x, &y, &z);
    T* grad = dL_ddirections + 3 * i;
    grad[0] = x;
    grad[1] = y;
    grad[2] = z;
  }
};

// Host side: calls body(integral_constant<degree>), so that the walk over (l, m) is unrolled for every degree.
template <int kDegree = 1, typename Body>
void with_degree(int degree, const Body& body) {
  if constexpr (kDegree <= kMaxSphericalHarmonicsDegree) {
    if (degree == kDegree)
      body(std::integral_constant<int, kDegree>{});
    else
      with_degree<kDegree + 1>(degree, body);
  }
}

}  // namespace nf
