// SPDX-License-Identifier: Apache-2.0
// Fourier features of many samples (math/fourier_features.h has the definitions).
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace nf::NF_BACKEND {

constexpr int kMaxFourierDims = 8;

struct FourierSizes {
  int n_dims, n_frequencies, n_gates;  // n_gates 0: none
};

// y [n, 2 * n_frequencies] of x [n, n_dims], frequencies [n_dims, n_frequencies] (component by component),
// gates [n, n_gates] or null.
template <typename T>
void fourier_features_forward(FourierSizes sizes, const T* x, const T* frequencies, const T* gates, int64_t n, T* y);

// dL_dx [n, n_dims]
template <typename T>
void fourier_features_backward(FourierSizes sizes, const T* x, const T* frequencies, const T* gates, const T* dL_dy,
                               int64_t n, T* dL_dx);

}  // namespace nf::NF_BACKEND
