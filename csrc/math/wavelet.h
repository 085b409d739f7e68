// SPDX-License-Identifier: Apache-2.0
// The complex Gabor wavelet, the activation of WIRE (Saragadam et al. 2023), of u = a + i b:
//   h = exp(i omega u - |s u|^2) = exp(-omega b - s^2 (a^2 + b^2)) (cos omega a + i sin omega a)
// The backward pass needs u and h, no transcendental function; L is real, gradients are those to real and imaginary
// parts:
//   dL/da = omega (dL/dIm h Re h - dL/dRe h Im h) - 2 s^2 a r,   dL/db = -(omega + 2 s^2 b) r,
//   r = dL/dRe h Re h + dL/dIm h Im h
// V is float, double or (on the CPU) vf. Errors in float, relative to |h|: some roundings of omega a, omega b and
// s^2 |u|^2, and those of math/elementary.h and math/exponential.h. In float |h| is 0 below e^-87 and saturates.
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "math/elementary.h"
#include "math/exponential.h"

namespace nf {

template <typename V>
struct Wavelet {
  V omega, square;  // square: s^2

  NF_HD void forward(V a, V b, V* re, V* im) const {
    const V size = exponential(-(omega * b + square * (a * a + b * b)));
    V s, c;
    sine_cosine(omega * a, &s, &c);
    *re = size * c;
    *im = size * s;
  }
  NF_HD void backward(V a, V b, V re, V im, V dL_dre, V dL_dim, V* dL_da, V* dL_db) const {
    const V along = dL_dre * re + dL_dim * im, across = dL_dim * re - dL_dre * im;
    const V twice = square + square;
    *dL_da = omega * across - twice * a * along;
    *dL_db = -(omega + twice * b) * along;
  }
};

// Rows [n, 2 width] are real parts, then imaginary ones. One number of all n * width.
template <typename T>
struct WaveletForward {
  const T* u;  // rows
  T* h;        // rows
  int64_t width;
  Wavelet<T> wavelet;
  NF_HD void operator()(int64_t i) const {
    const int64_t at = i / width * 2 * width + i % width;
    wavelet.forward(u[at], u[at + width], &h[at], &h[at + width]);
  }
};
template <typename T>
struct WaveletBackward {
  const T *u, *h, *dL_dh;  // rows
  T* dL_du;                // rows
  int64_t width;
  Wavelet<T> wavelet;
  NF_HD void operator()(int64_t i) const {
    const int64_t re = i / width * 2 * width + i % width, im = re + width;
    wavelet.backward(u[re], u[im], h[re], h[im], dL_dh[re], dL_dh[im], &dL_du[re], &dL_du[im]);
  }
};

}  // namespace nf
