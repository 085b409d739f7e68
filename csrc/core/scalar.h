// SPDX-License-Identifier: Apache-2.0
// Scalar helpers with one meaning on host and device. `fma` is always the correctly rounded operation
// (a library call on an x86-64 without FMA), so that cell indices agree bit for bit everywhere;
// `madd` rounds once where the hardware does and twice elsewhere: use it where only speed matters.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/macros.h"

namespace nf {

NF_HD float fma(float a, float b, float c) { return ::fmaf(a, b, c); }
NF_HD double fma(double a, double b, double c) { return ::fma(a, b, c); }

#if defined(__FMA__) || defined(__ARM_FEATURE_FMA) || defined(__CUDA_ARCH__)
NF_HD float madd(float a, float b, float c) { return ::fmaf(a, b, c); }
NF_HD double madd(double a, double b, double c) { return ::fma(a, b, c); }
#else
NF_HD float madd(float a, float b, float c) { return a * b + c; }
NF_HD double madd(double a, double b, double c) { return a * b + c; }
#endif

// Of the argument's own type: on a host ::floor and ::sqrt of a float are those of double, which round elsewhere.
NF_HD float floor_of(float x) { return ::floorf(x); }
NF_HD double floor_of(double x) { return ::floor(x); }
NF_HD float root_of(float x) { return ::sqrtf(x); }
NF_HD double root_of(double x) { return ::sqrt(x); }

template <typename T>
constexpr NF_HD T min(T a, T b) {
  return b < a ? b : a;
}
template <typename T>
constexpr NF_HD T max(T a, T b) {
  return a < b ? b : a;
}
template <typename T>
NF_HD T clamp(T x, T lo, T hi) {
  return min(max(x, lo), hi);
}

NF_HD uint32_t float_bits(float x) {
  union {
    float f;
    uint32_t u;
  } c;
  c.f = x;
  return c.u;
}
NF_HD float bits_float(uint32_t u) {
  union {
    uint32_t u;
    float f;
  } c;
  c.u = u;
  return c.f;
}

}  // namespace nf
