// SPDX-License-Identifier: Apache-2.0
// Sine, cosine, hyperbolic tangent and ln(1 + u) for float (scalar and SIMD alike) and double. The float versions are
// polynomials fitted to minimise the largest relative error on the reduced interval; errors against exact values:
//   sine, cosine   2^-23 absolute for |x| <= 8192; beyond that each lane calls libm; infinity and NaN give NaN
//   sine_cosine    both at once, the same numbers
//   hyperbolic_tangent   4 ulp everywhere, +-1 at infinity, NaN stays NaN
//   log1p_unit     3 ulp for u in [0, 1], its domain
#pragma once

#include <cmath>

#include "core/macros.h"
#include "math/exponential.h"

namespace nf {

NF_HD double sine(double x) { return ::sin(x); }
NF_HD double cosine(double x) { return ::cos(x); }
NF_HD void sine_cosine(double x, double* s, double* c) {
  *s = ::sin(x);
  *c = ::cos(x);
}
NF_HD double hyperbolic_tangent(double x) { return ::tanh(x); }
NF_HD double log1p_unit(double u) { return ::log1p(u); }

#ifdef __CUDACC__
NF_HD float sine(float x) { return ::sinf(x); }
NF_HD float cosine(float x) { return ::cosf(x); }
NF_HD void sine_cosine(float x, float* s, float* c) { ::sincosf(x, s, c); }
NF_HD float hyperbolic_tangent(float x) { return ::tanhf(x); }
NF_HD float log1p_unit(float u) { return ::log1pf(u); }
#else
namespace detail {

NF_HD float absolute(float x) { return bits_float(float_bits(x) & 0x7fffffffu); }
NF_HD vf absolute(vf x) { return from_bits(bits(x) & 0x7fffffff); }
NF_HD float with_sign_of(float magnitude, float x) { return x < 0 ? -magnitude : magnitude; }
NF_HD vf with_sign_of(vf magnitude, vf x) { return from_bits(bits(magnitude) | (bits(x) & INT32_MIN)); }
NF_HD bool outside(float x, float range) { return !(absolute(x) <= range); }
NF_HD vi outside(vf x, float range) { return ~(absolute(x) <= splat(range)); }
template <float (*F)(float)>
NF_HD float per_lane(float x) {
  return F(x);
}
template <float (*F)(float)>
NF_HD vf per_lane(vf x) {
  for (int i = 0; i < kLanes; ++i) x[i] = F(x[i]);
  return x;
}

constexpr float kSineRange = 8192.0f;

// sin(r) and cos(r) where x = n pi/2 + r, |r| <= pi/4 (1.001 of it after rounding), for |x| <= kSineRange; returns n.
// pi/2 is split so that n times its first two parts is exact.
template <typename V>
NF_HD auto sine_parts(V x, V* sin_r, V* cos_r) {
  const auto c = [x](float v) { return broadcast(v, x); };
  const auto n = round_to_int(x * c(0.636619772f));
  const V turns = as_float(n);
  V r = madd(turns, c(-1.5703125f), x);
  r = madd(turns, c(-4.837512969970703e-4f), r);
  r = madd(turns, c(-7.549789948768648e-8f), r);
  const V z = r * r;
  V s = madd(c(-1.9516656e-4f), z, c(8.3321733e-3f));
  *sin_r = madd(madd(s, z, c(-0.16666655f)), z * r, r);
  V k = madd(c(2.443773e-5f), z, c(-1.3887362e-3f));
  *cos_r = madd(madd(k, z, c(0.041666646f)), z * z, madd(c(-0.5f), z, c(1.0f)));
  return n;
}

// The sine of `quarters` pi/2 + r from those of r.
template <typename V, typename N>
NF_HD V turned(N quarters, V sin_r, V cos_r) {
  const V y = select((quarters & 1) != 0, cos_r, sin_r);
  return select((quarters & 2) != 0, -y, y);
}

template <typename V>
NF_HD V sine_float(V x) {
  if (any(outside(x, kSineRange))) return per_lane< ::sinf>(x);
  V s, c;
  const auto n = sine_parts(x, &s, &c);
  return turned(n, s, c);
}
template <typename V>
NF_HD V cosine_float(V x) {
  if (any(outside(x, kSineRange))) return per_lane< ::cosf>(x);
  V s, c;
  const auto n = sine_parts(x, &s, &c);
  return turned(n + 1, s, c);
}
template <typename V>
NF_HD void sine_cosine_float(V x, V* sine, V* cosine) {
  if (any(outside(x, kSineRange))) {
    *sine = per_lane< ::sinf>(x);
    *cosine = per_lane< ::cosf>(x);
    return;
  }
  V s, c;
  const auto n = sine_parts(x, &s, &c);
  *sine = turned(n, s, c);
  *cosine = turned(n + 1, s, c);
}
// Odd polynomial below 0.625, 1 - 2 / (e^(2 |x|) + 1) above.
template <typename V>
NF_HD V tanh_float(V x) {
  const auto c = [x](float v) { return broadcast(v, x); };
  const V z = x * x;
  V p = madd(c(-5.717045e-3f), z, c(2.0650586e-2f));
  p = madd(p, z, c(-5.3743497e-2f));
  p = madd(p, z, c(0.1333149f));
  p = madd(p, z, c(-0.33333284f));
  const V small = madd(p, z * x, x);
  const V a = absolute(x);
  const V large = with_sign_of(c(1.0f) - c(2.0f) / (exponential(a + a) + c(1.0f)), x);
  return select(a < c(0.625f), small, large);
}

// ln(1 + u) = 2 artanh(s), s = u / (2 + u) in [0, 1/3]
template <typename V>
NF_HD V log1p_unit_float(V u) {
  const auto c = [u](float v) { return broadcast(v, u); };
  const V s = u / (u + c(2.0f)), z = s * s;
  V p = madd(c(0.14015638f), z, c(0.13998932f));
  p = madd(p, z, c(0.20010886f));
  p = madd(p, z, c(0.33333206f));
  p = madd(p, z * s, s);
  return p + p;
}

}  // namespace detail

NF_HD float sine(float x) { return detail::sine_float(x); }
NF_HD float cosine(float x) { return detail::cosine_float(x); }
NF_HD void sine_cosine(float x, float* s, float* c) { detail::sine_cosine_float(x, s, c); }
NF_HD float hyperbolic_tangent(float x) { return detail::tanh_float(x); }
NF_HD float log1p_unit(float u) { return detail::log1p_unit_float(u); }
NF_HD vf sine(vf x) { return detail::sine_float(x); }
NF_HD vf cosine(vf x) { return detail::cosine_float(x); }
NF_HD void sine_cosine(vf x, vf* s, vf* c) { detail::sine_cosine_float(x, s, c); }
NF_HD vf hyperbolic_tangent(vf x) { return detail::tanh_float(x); }
NF_HD vf log1p_unit(vf u) { return detail::log1p_unit_float(u); }
#endif

}  // namespace nf
