// SPDX-License-Identifier: Apache-2.0
// Truncated exponential, the density activation of instant-ngp: y = e^x, but dL/dx = dL/dy e^clamp(x, -15, 15), so
// that a density far from its target keeps a gradient that is neither zero nor infinite. NaN stays NaN.
// Error: that of nf::exponential (2 ulp in float); float values saturate at the largest finite power.
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "math/exponential.h"

namespace nf {

NF_HD float trunc_exp_derivative(float x) { return exponential(x < -15.0f ? -15.0f : x > 15.0f ? 15.0f : x); }
NF_HD double trunc_exp_derivative(double x) { return exponential(x < -15.0 ? -15.0 : x > 15.0 ? 15.0 : x); }
#ifndef __CUDACC__
NF_HD vf trunc_exp_derivative(vf x) {
  return exponential(select(x < splat(-15.0f), splat(-15.0f), select(x > splat(15.0f), splat(15.0f), x)));
}
#endif

template <typename T>
struct TruncExpForward {
  const T* x;  // [n]
  T* y;        // [n]
  NF_HD void operator()(int64_t i) const { y[i] = exponential(x[i]); }
};

template <typename T>
struct TruncExpBackward {
  const T* x;      // [n]
  const T* dL_dy;  // [n]
  T* dL_dx;        // [n]
  NF_HD void operator()(int64_t i) const { dL_dx[i] = dL_dy[i] * trunc_exp_derivative(x[i]); }
};

}  // namespace nf
