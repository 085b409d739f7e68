// SPDX-License-Identifier: Apache-2.0
// e^x and what is built on it, for float (scalar, SIMD and CUDA alike) and double, and ln x for float. The float e^x
// reduces x = n ln2 + r, |r| <= ln2/2, and evaluates a degree-6 polynomial (Cephes expf coefficients): at most 2 ulp
// for x in [-87.3, 88.7]; 0 below; saturates at the largest finite power above; NaN stays NaN.
#pragma once

#include <cmath>

#include "core/macros.h"
#include "core/scalar.h"
#ifndef __CUDACC__
#include "core/simd.h"
#endif

namespace nf {

NF_HD double exponential(double x) { return ::exp(x); }

namespace detail {
NF_HD bool any(bool mask) { return mask; }
NF_HD float select(bool mask, float a, float b) { return mask ? a : b; }
NF_HD float broadcast(float x, float) { return x; }
NF_HD int32_t round_to_int(float x) { return static_cast<int32_t>(x + (x < 0 ? -0.5f : 0.5f)); }
NF_HD float power_of_two(int32_t n) { return bits_float(static_cast<uint32_t>(n + 127) << 23); }
NF_HD float as_float(int32_t n) { return static_cast<float>(n); }
#ifndef __CUDACC__
NF_HD bool any(vi mask) { return nf::any(mask); }
NF_HD vf select(vi mask, vf a, vf b) { return nf::select(mask, a, b); }
NF_HD vf broadcast(float x, vf) { return splat(x); }
NF_HD vi round_to_int(vf x) { return __builtin_convertvector(x + (x < 0 ? splat(-0.5f) : splat(0.5f)), vi); }
NF_HD vf power_of_two(vi n) { return from_bits((n + 127) << 23); }
NF_HD vf as_float(vi n) { return to_float(n); }
#endif
}  // namespace detail

// Splits e^x = 2^n (1 + q), |ln(1 + q)| <= ln2/2, and returns q; n is int32_t or vi. -87.4 <= x <= 88.8.
template <typename V, typename N>
NF_HD V exponential_parts(V x, N* n) {
  const auto c = [x](float v) { return detail::broadcast(v, x); };
  *n = detail::round_to_int(x * c(1.44269504f));
  const V turns = detail::as_float(*n);
  V r = madd(turns, c(-0.693359375f), x);
  r = madd(turns, c(2.12194440e-4f), r);
  V p = c(1.9875691500e-4f);
  p = madd(p, r, c(1.3981999507e-3f));
  p = madd(p, r, c(8.3334519073e-3f));
  p = madd(p, r, c(4.1665795894e-2f));
  p = madd(p, r, c(1.6666665459e-1f));
  p = madd(p, r, c(5.0000001201e-1f));
  return madd(p, r * r, r);
}

template <typename V>
NF_HD V exponential_float(V x) {
  const auto c = [x](float v) { return detail::broadcast(v, x); };
  decltype(detail::round_to_int(x)) n;
  const V q = exponential_parts(nf::min(nf::max(x, c(-87.33654f)), c(88.72283f)), &n);
  // 2^128 is not finite: the scale is applied as two factors.
  const auto half_n = n >> 1;
  V y = (q + c(1.0f)) * detail::power_of_two(half_n) * detail::power_of_two(n - half_n);
  y = detail::select(x < c(-87.33654f), c(0.0f), y);
  return detail::select(x != x, x, y);
}
NF_HD float exponential(float x) { return exponential_float(x); }
#ifndef __CUDACC__
NF_HD vf exponential(vf x) { return exponential_float(x); }
NF_HD vf sigmoid(vf x) { return splat(1.0f) / (splat(1.0f) + exponential(-x)); }
#endif

// ln x for positive, normal x: x = 2^e m with m in [sqrt(1/2), sqrt(2)], ln m = 2 artanh(s), s = (m - 1) / (m + 1). At
// most 2 ulp.
NF_HD float logarithm(float x) {
  const int32_t shifted = static_cast<int32_t>(float_bits(x) - 0x3f3504f3u) >> 23;  // e: 0x3f3504f3 is sqrt(1/2)
  const float m = bits_float(float_bits(x) - (static_cast<uint32_t>(shifted) << 23)), e = static_cast<float>(shifted);
  const float s = (m - 1.0f) / (m + 1.0f), z = s * s;
  float p = madd(1.0f / 9, z, 1.0f / 7);
  p = madd(p, z, 1.0f / 5);
  p = madd(p, z, 1.0f / 3);
  const float twice = s + s;
  const float low = madd(e, -2.12194440e-4f, madd(p * z, twice, twice));
  return madd(e, 0.693359375f, low);
}

NF_HD float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }
NF_HD double sigmoid(double x) { return 1.0 / (1.0 + exponential(-x)); }

}  // namespace nf
