// SPDX-License-Identifier: Apache-2.0
// Frequency encoding: y[2k] = sin(2^k pi x), y[2k + 1] = cos(2^k pi x), k = 0 ... n_frequencies - 1, per input
// value (Mildenhall et al. 2020, eq. 4; pi included, ordering as in tiny-cuda-nn). 2^k x is exact in binary floating
// point, so the argument is first reduced to half turns and large k lose nothing but the bits of x itself.
#pragma once

#include <cmath>

#include "core/macros.h"
#include "core/scalar.h"

namespace nf {

// sin and cos of pi * x, reduced exactly: error of the libm call plus, on the CPU, one rounding. There float32 is
// computed many at once, as Fourier features of 2^(k - 1) turns (cpu/frequency.cpp).
template <typename T>
NF_HD void sincos_pi(T x, T* s, T* c) {
  const T turns = x - T(2) * floor_of(x * T(0.5));  // in [0, 2)
#ifdef __CUDA_ARCH__
  *s = ::sinpi(turns);  // the device's sin keeps a table in local memory for arguments that do not occur here
  *c = ::cospi(turns);
#else
  const T angle = turns * T(3.14159265358979323846);
  *s = ::sin(angle);
  *c = ::cos(angle);
#endif
}

template <typename T>
struct FrequencyForward {
  const T* x;  // [n]
  T* y;        // [n, 2 * n_frequencies]
  int n_frequencies;
  NF_HD void operator()(int64_t i) const {
    T scaled = x[i];
    T* out = y + i * 2 * n_frequencies;
    for (int k = 0; k < n_frequencies; ++k, scaled *= T(2)) sincos_pi(scaled, &out[2 * k], &out[2 * k + 1]);
  }
};

// dL/dx = sum_k 2^k pi (cos dL/dy[2k] - sin dL/dy[2k + 1])
template <typename T>
struct FrequencyBackward {
  const T* x;      // [n]
  const T* dL_dy;  // [n, 2 * n_frequencies]
  T* dL_dx;        // [n]
  int n_frequencies;
  NF_HD void operator()(int64_t i) const {
    const T* grad = dL_dy + i * 2 * n_frequencies;
    T scaled = x[i], sum = 0, frequency = T(3.14159265358979323846);
    for (int k = 0; k < n_frequencies; ++k, scaled *= T(2), frequency *= T(2)) {
      T s, c;
      sincos_pi(scaled, &s, &c);
      sum = fma(frequency, fma(c, grad[2 * k], -s * grad[2 * k + 1]), sum);
    }
    dL_dx[i] = sum;
  }
};

}  // namespace nf
