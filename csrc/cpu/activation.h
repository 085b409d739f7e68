// SPDX-License-Identifier: Apache-2.0
// Activations applied to contiguous values, and the two that a product applies before it stores (see mlp_tile.h).
#pragma once

#include <cstdint>
#include <type_traits>

#include "cpu/mlp_tile.h"
#include "math/activation.h"

namespace nf::cpu {

// Epilogues of gemm_rows. ReLU is worth fusing: as a pass of its own it costs 3 % of a 64-wide layer.
struct ReluEpilogue {
  template <typename V>
  NF_HD V operator()(V v, int64_t, int64_t) const {
    if constexpr (std::is_same_v<V, vf>)
      return max(V{}, v);  // the second where they are equal or one is NaN: -0 and NaN stay
    else
      return v < V{} ? V{} : v;
  }
  NF_HD void after(int) const {}
};

// The gradient where the stored output h [n_rows, ldh] is positive, 0 elsewhere.
template <typename T>
struct ReluGradientEpilogue {
  const T* h;
  int64_t ldh;
  template <typename V>
  NF_HD V operator()(V v, int64_t row, int64_t column) const {
    const T* stored = h + row * ldh + column;
    if constexpr (std::is_same_v<T, bf16>) {
      return where_not_zero(stored, v);  // outputs of ReLU are not negative
    } else {
      return detail::load_vector(stored) <= V{} ? V{} : v;
    }
  }
  NF_HD void after(int) const {}
};

namespace detail {

// Calls f(integral constant of the activation).
template <typename F>
void with_activation(Activation kind, const F& f) {
  switch (kind) {
#define NF_CASE(k) \
  case k:          \
    return f(std::integral_constant<Activation, k>{});
    NF_CASE(Activation::kNone)
    NF_CASE(Activation::kReLU)
    NF_CASE(Activation::kLeakyReLU)
    NF_CASE(Activation::kSiLU)
    NF_CASE(Activation::kExponential)
    NF_CASE(Activation::kSine)
    NF_CASE(Activation::kSigmoid)
    NF_CASE(Activation::kSquareplus)
    NF_CASE(Activation::kSoftplus)
    NF_CASE(Activation::kTanh)
    NF_CASE(Activation::kGaussian)
    NF_CASE(Activation::kGabor)
    NF_CASE(Activation::kFiner)
#undef NF_CASE
  }
}

}  // namespace detail

// out[i] = a(z[i]); in place if out == z.
template <typename T>
void apply_activation(Activation kind, const T* z, T* out, int64_t n, ActivationArguments arguments = {}) {
  if (kind == Activation::kNone && z == out) return;
  detail::with_activation(kind, [&](auto constant) {
    constexpr Activation k = decltype(constant)::value;
    int64_t i = 0;
    if constexpr (sizeof(T) == sizeof(float))
      for (; i + kLanes <= n; i += kLanes) store(out + i, activation_forward<k>(load(z + i), arguments));
    for (; i < n; ++i) out[i] = activation_forward<k>(z[i], arguments);
  });
}

// grad_out[i] = grad[i] a'(stored[i]), `stored` as stores_input(kind) says; in place if grad_out == grad.
template <typename T>
void apply_activation_gradient(Activation kind, const T* stored, const T* grad, T* grad_out, int64_t n,
                               ActivationArguments arguments = {}) {
  if (kind == Activation::kNone && grad == grad_out) return;
  detail::with_activation(kind, [&](auto constant) {
    constexpr Activation k = decltype(constant)::value;
    int64_t i = 0;
    if constexpr (sizeof(T) == sizeof(float))
      for (; i + kLanes <= n; i += kLanes)
        store(grad_out + i, load(grad + i) * activation_derivative<k>(load(stored + i), arguments));
    for (; i < n; ++i) grad_out[i] = grad[i] * activation_derivative<k>(stored[i], arguments);
  });
}

}  // namespace nf::cpu
