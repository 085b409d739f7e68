// SPDX-License-Identifier: Apache-2.0
// Adam (Kingma and Ba 2015) in the form of tiny-cuda-nn: g += l2_reg * w; m, v the moments of g;
// w -= lr sqrt(1 - beta2^k) / (1 - beta1^k) * m / (sqrt(v) + epsilon). Epsilon is not scaled by the bias correction.
// With skip_zero, a parameter whose gradient is exactly zero keeps its value, its moments and its step count k.
#pragma once

#include <cmath>
#include <cstdint>

#include "core/macros.h"
#include "core/scalar.h"
#ifndef __CUDACC__
#include "core/simd.h"
#endif

namespace nf {

struct AdamConfig {
  double learning_rate, beta1, beta2, epsilon, l2_reg;
  bool skip_zero, zero_grad;
};

constexpr int32_t kMaxOwnSteps = 32767;  // where counts of a parameter's own updates end

// lr sqrt(1 - beta2^k) / (1 - beta1^k), k >= 1
inline double adam_rate(const AdamConfig& config, int64_t step) {
  const double k = static_cast<double>(step);
  return config.learning_rate * ::sqrt(1.0 - ::pow(config.beta2, k)) / (1.0 - ::pow(config.beta1, k));
}

namespace detail {
NF_HD float adam_expm1(float x) { return ::expm1f(x); }
NF_HD double adam_expm1(double x) { return ::expm1(x); }
}  // namespace detail

// adam_rate of a count that only the device knows, or where no table of rates is at hand: 1 - beta^k as -expm1(k ln
// beta). In float within 8 roundings of it.
template <typename T>
struct AdamRates {
  T learning_rate, log_beta1, log_beta2;
  explicit AdamRates(const AdamConfig& c)
      : learning_rate(T(c.learning_rate)), log_beta1(T(::log(c.beta1))), log_beta2(T(::log(c.beta2))) {}

  NF_HD T operator()(int32_t count) const {
    const T k = static_cast<T>(count);
    return learning_rate * root_of(-detail::adam_expm1(k * log_beta2)) / -detail::adam_expm1(k * log_beta1);
  }
};

// The constants of one step. T is float or double; the update takes T or a vector of T.
template <typename T>
struct AdamUpdate {
  T keep1, take1, keep2, take2, epsilon, l2_reg;
  explicit AdamUpdate(const AdamConfig& c)
      : keep1(T(c.beta1)),
        take1(T(1.0 - c.beta1)),
        keep2(T(c.beta2)),
        take2(T(1.0 - c.beta2)),
        epsilon(T(c.epsilon)),
        l2_reg(T(c.l2_reg)) {}

  // Returns the new parameter; the moments change in place. `rate` is adam_rate.
  template <typename V>
  NF_HD V operator()(V w, V g, V rate, V* m, V* v) const {
    g = g + w * l2_reg;
    *m = *m * keep1 + g * take1;
    *v = *v * keep2 + g * g * take2;
    return w - rate * *m / (root_of(*v) + epsilon);
  }
};

}  // namespace nf
