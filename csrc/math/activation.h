// SPDX-License-Identifier: Apache-2.0
// Activations of small MLPs, with the names and constants of tiny-cuda-nn (LeakyReLU slope 0.01; Squareplus and
// Softplus at z = 10 x, divided by 10), and those of coordinate networks, which take the numbers omega and s:
//   Sine       sin(omega z)                          (SIREN, Sitzmann et al. 2020; omega = 1 in tiny-cuda-nn)
//   Gaussian   exp(-(s z)^2)                         (Ramasinghe and Lucey 2022)
//   Gabor      cos(omega z) exp(-(s z)^2)            (the real Gabor wavelet of WIRE, Saragadam et al. 2023)
//   FINER      sin(omega (|z| + 1) z)                (Liu et al. 2024); |z| + 1 counts as a constant in derivatives
// Each is a pair:
//   forward(z)       h = a(z)
//   derivative(s)    a'(z) from the stored value s: the output h, except where stores_input says it is z
// V is float, double or (on the CPU) vf. Errors in float: ReLU and LeakyReLU are exact to one rounding, Exponential 2
// ulp, Sigmoid, SiLU, Tanh and Softplus 5 ulp, Squareplus 4 ulp; absolute: Sine 2^-23, Gaussian 2^-22, Gabor 2^-21 and
// FINER 2^-23, to which the rounded argument adds 2^-24 |omega z| for Sine and Gabor (nothing if omega = 1),
// 3 * 2^-24 |omega (|z| + 1) z| for FINER. Derivatives: 2^-21 absolute, for tiny-cuda-nn's (relative to it for
// Exponential). NaN stays NaN.
#pragma once

#include <cstdint>

#include "core/macros.h"
#include "math/elementary.h"
#include "math/exponential.h"

namespace nf {

enum class Activation : int32_t {
  kNone,
  kReLU,
  kLeakyReLU,
  kSiLU,
  kExponential,
  kSine,
  kSigmoid,
  kSquareplus,
  kSoftplus,
  kTanh,
  kGaussian,
  kGabor,
  kFiner,
};

struct ActivationArguments {
  double omega = 1, scale = 1;  // scale: s of the formulas
};

namespace detail {
NF_HD double select(bool mask, double a, double b) { return mask ? a : b; }
NF_HD double broadcast(double x, double) { return x; }
NF_HD float broadcast(double x, float) { return static_cast<float>(x); }
#ifndef __CUDACC__
NF_HD vf broadcast(double x, vf) { return splat(static_cast<float>(x)); }
#endif
template <typename V>
NF_HD V constant(double value) {
  return broadcast(value, V{});
}
template <typename V>
NF_HD V magnitude(V x) {
  return select(x < V{}, -x, x);
}
}  // namespace detail

// Whether the derivative needs z rather than the output.
NF_HD bool stores_input(Activation kind) {
  return kind == Activation::kSiLU || kind == Activation::kSine || kind == Activation::kGaussian ||
         kind == Activation::kGabor || kind == Activation::kFiner;
}

template <Activation kind, typename V>
NF_HD V activation_forward(V z, ActivationArguments arguments = {}) {
  const V omega = detail::constant<V>(arguments.omega), scale = detail::constant<V>(arguments.scale);
  const V one = detail::constant<V>(1.0), zero{};
  if constexpr (kind == Activation::kReLU) {
    return detail::select(z < zero, zero, z);
  } else if constexpr (kind == Activation::kLeakyReLU) {
    return detail::select(z < zero, z * detail::constant<V>(0.01), z);
  } else if constexpr (kind == Activation::kSiLU) {
    return z * sigmoid(z);
  } else if constexpr (kind == Activation::kExponential) {
    return exponential(z);
  } else if constexpr (kind == Activation::kSine) {
    return sine(omega * z);
  } else if constexpr (kind == Activation::kGaussian) {
    const V t = scale * z;
    return exponential(-(t * t));
  } else if constexpr (kind == Activation::kGabor) {
    const V t = scale * z;
    return cosine(omega * z) * exponential(-(t * t));
  } else if constexpr (kind == Activation::kFiner) {
    return sine(omega * (detail::magnitude(z) + one) * z);
  } else if constexpr (kind == Activation::kSigmoid) {
    return sigmoid(z);
  } else if constexpr (kind == Activation::kSquareplus) {
    // (z + r) / 2 with r = sqrt(z^2 + 4); for z < 0 the equal 2 / (r - z) does not cancel
    const V t = z * detail::constant<V>(10.0), r = root_of(t * t + detail::constant<V>(4.0));
    const V sum = r + detail::magnitude(t);
    return detail::select(t < zero, detail::constant<V>(0.2) / sum, sum * detail::constant<V>(0.05));
  } else if constexpr (kind == Activation::kSoftplus) {
    // ln(1 + e^t) = max(t, 0) + ln(1 + e^-|t|)
    const V t = z * detail::constant<V>(10.0);
    const V tail = log1p_unit(exponential(-detail::magnitude(t)));
    return (detail::select(t < zero, zero, t) + tail) * detail::constant<V>(0.1);
  } else if constexpr (kind == Activation::kTanh) {
    return hyperbolic_tangent(z);
  } else {
    (void)one, (void)omega, (void)scale;
    return z;
  }
}

template <Activation kind, typename V>
NF_HD V activation_derivative(V s, ActivationArguments arguments = {}) {
  const V omega = detail::constant<V>(arguments.omega), scale = detail::constant<V>(arguments.scale);
  const V one = detail::constant<V>(1.0), zero{};
  if constexpr (kind == Activation::kReLU) {
    return detail::select(s <= zero, zero, one);
  } else if constexpr (kind == Activation::kLeakyReLU) {
    return detail::select(s <= zero, detail::constant<V>(0.01), one);
  } else if constexpr (kind == Activation::kSiLU) {
    const V y = sigmoid(s);
    return y * (one + s * (one - y));
  } else if constexpr (kind == Activation::kExponential) {
    return s;
  } else if constexpr (kind == Activation::kSine) {
    return omega * cosine(omega * s);
  } else if constexpr (kind == Activation::kGaussian) {
    const V t = scale * s;
    return detail::constant<V>(-2.0) * scale * t * exponential(-(t * t));
  } else if constexpr (kind == Activation::kGabor) {
    const V t = scale * s;
    V sin_z, cos_z;
    sine_cosine(omega * s, &sin_z, &cos_z);
    return -(omega * sin_z + detail::constant<V>(2.0) * scale * t * cos_z) * exponential(-(t * t));
  } else if constexpr (kind == Activation::kFiner) {
    const V factor = omega * (detail::magnitude(s) + one);
    return factor * cosine(factor * s);
  } else if constexpr (kind == Activation::kSigmoid) {
    return s * (one - s);
  } else if constexpr (kind == Activation::kSquareplus) {
    // 10 h = y satisfies y - 1/y = t, so dy/dt = y^2 / (y^2 + 1)
    const V y = s * detail::constant<V>(10.0), y2 = y * y;
    return y2 / (y2 + one);
  } else if constexpr (kind == Activation::kSoftplus) {
    return one - exponential(s * detail::constant<V>(-10.0));  // sigmoid(t) = 1 - e^-10h
  } else if constexpr (kind == Activation::kTanh) {
    return one - s * s;
  } else {
    (void)omega, (void)scale;
    return one;
  }
}

}  // namespace nf
