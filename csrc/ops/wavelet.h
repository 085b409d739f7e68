// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "core/macros.h"

namespace nf::NF_BACKEND {

// Arrays [n, 2 width]: real parts, then imaginary ones; see math/wavelet.h.
template <typename T>
void wavelet_forward(const T* u, double omega, double scale, T* h, int64_t n, int64_t width);
template <typename T>
void wavelet_backward(const T* u, const T* h, const T* dL_dh, double omega, double scale, T* dL_du, int64_t n,
                      int64_t width);

}  // namespace nf::NF_BACKEND
